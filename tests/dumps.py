"""A database as pg_dump writes it, schema and data, so that before and after can be compared."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from runbook.operations.create_index import CreateIndex
from runbook.spec import Spec
from tests.conftest import Database

Dump = tuple[str, ...]
"""The entries of a dump, in its order."""

_ENTRY = re.compile(r"^--\n-- (?:Data for )?Name: [^\n]*\n--\n", re.MULTILINE)
_COPY = re.compile(r"^(COPY [^\n]* FROM stdin;\n)(.*?)^(\\\.\n)", re.DOTALL | re.MULTILINE)
_NOISE = re.compile(
    # Newer versions put a random word into two lines; the others stand before whichever is first.
    r"^(\\(un)?restrict .*|SET default_table.* = .*;"
    r"|--\n-- PostgreSQL database dump complete\n--)$",
    re.MULTILINE,
)


def dumped(database: Database) -> Dump:
    """Return a dump without the ledger; the rows of each table sorted, for an UPDATE moves them."""
    command = [
        str(database.binaries / "pg_dump"),
        "--exclude-schema=runbook",
        f"--dbname={database.conninfo}",
    ]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return tuple(one.strip() for one in _ENTRY.split(_COPY.sub(_sorted, _NOISE.sub("", text))))


def _sorted(copy: re.Match[str]) -> str:
    head, rows, end = copy.groups()
    return str(head) + "".join(sorted(rows.splitlines(keepends=True))) + str(end)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What only one of two dumps holds."""

    gone: Dump
    new: Dump

    def __bool__(self) -> bool:
        return bool(self.gone or self.new)


def difference(before: Dump, after: Dump) -> Difference:
    """Compare two dumps, whatever the order of their entries."""
    counts = Counter(map(_unnamed, before)), Counter(map(_unnamed, after))
    return Difference(
        gone=tuple((counts[0] - counts[1]).elements()),
        new=tuple((counts[1] - counts[0]).elements()),
    )


def _unnamed(entry: str) -> str:
    """Return a table without the names of its NOT NULL constraints, which stand there only where
    they are not those that PostgreSQL gives by itself."""
    return re.sub(r" CONSTRAINT [^\n]* NOT NULL(?=[, \n])", " NOT NULL", entry)


def as_before(database: Database, spec: Spec, after: Dump, renamed: Mapping[str, str]) -> Dump:
    """Return a migrated database's dump without what the spec adds, and with old names in place of
    new ones (`renamed`: old → new)."""
    assert spec.classify
    indexes = [one.name for one in spec.operations if isinstance(one, CreateIndex)]
    names = {
        spec.schema_,
        spec.table,
        spec.table_after,
        spec.classify.column,
        spec.classify.type,
        *indexes,
    }
    quoted = _quoted(database, {*names, *renamed, *renamed.values()})
    schema, type_ = quoted[spec.schema_], quoted[spec.classify.type]
    added = (
        f"CREATE TYPE {schema}.{type_} AS ENUM",
        *(f"CREATE INDEX {quoted[one]} ON {schema}.{quoted[spec.table_after]} " for one in indexes),
    )
    text = "\0".join(one for one in after if not one.startswith(added))
    for old, new in sorted(renamed.items(), key=lambda item: -len(quoted[item[1]])):
        for form in (str, _in_literal):
            text = text.replace(form(quoted[new]), form(quoted[old]))
    table, column = f"{schema}.{quoted[spec.table]}", quoted[spec.classify.column]
    return tuple(_without_column(text.split("\0"), table, column, f"{schema}.{type_}"))


def _quoted(database: Database, names: set[str]) -> dict[str, str]:
    """Return names as a dump writes them."""
    with database.connect() as connection:
        query = "SELECT name, quote_ident(name) FROM unnest(%s::text[]) AS name"
        return dict(connection.execute(query, [list(names)]).fetchall())


def _in_literal(name: str) -> str:
    return name.replace("'", "''")


def _without_column(entries: Iterable[str], table: str, column: str, type_: str) -> Iterator[str]:
    """Yield entries without the last column of a table."""
    line = re.compile(
        rf",\n    {re.escape(column)} {re.escape(type_)}(?: CONSTRAINT [^\n]*)? NOT NULL(?=,?\n)"
    )
    for entry in entries:
        if re.match(rf"CREATE (UNLOGGED )?TABLE {re.escape(table)} \(", entry):
            yield line.sub("", entry, count=1)
        elif entry.startswith(f"COPY {table} ("):
            head, *rows, end = entry.split("\n")
            head = head.replace(f", {column}) FROM", ") FROM")
            yield "\n".join([head, *sorted(row.rpartition("\t")[0] for row in rows), end])
        else:
            yield entry


def names_of(database: Database) -> dict[str, tuple[str, int]]:
    """Return the names of all relations and constraints by OID, each with the OID of its table, or
    its own."""
    with database.connect() as connection:
        found = connection.execute(_NAMES.encode()).fetchall()
    return {key: (name, owner) for key, name, owner in found}


_NAMES = """
SELECT 'relation ' || c.oid, c.relname::text,
       coalesce(i.indrelid, d.refobjid, c.oid)::bigint
FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
    AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S'
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'i', 'I', 'S', 'v', 'm')
  AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('runbook', 'pg_toast'))
UNION ALL
SELECT 'constraint ' || k.oid, k.conname::text, k.conrelid::bigint FROM pg_constraint k
JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.oid >= 16384 AND n.nspname <> 'runbook' AND k.contype <> 't'
"""
