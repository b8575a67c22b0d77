"""A copy in a scratch schema of the same database, by CREATE TABLE … LIKE.

Needs only the right to make a schema. Foreign keys, triggers and policies are left out: a foreign
key would lock the table that it refers to, a trigger would do its work for real.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import RefusedError
from runbook.facts import Table
from runbook.rehearsal.copy import (
    LEDGER,
    PREFIX,
    Copy,
    Scratch,
    claim,
    is_abandoned,
    scratch_name,
    unlimited,
)

Connection = psycopg.Connection[Any]


@contextmanager
def copied(wanted: Scratch) -> Iterator[Copy]:
    """Yield a copy in a schema of its own, and drop that afterwards."""
    table = wanted.catalog.table
    assert table is not None
    if table.kind != "r":
        raise RefusedError(
            f"{table.schema}.{table.name} is partitioned, and a scratch schema holds no copy of "
            "its partitions.",
            "Nothing was changed. Rehearse with --scratch database or --scratch embedded.",
        )
    name = scratch_name()
    with unlimited(wanted.connect) as holder:
        claim(holder, name)
        _drop_abandoned(holder)
        try:
            with unlimited(wanted.connect) as connection:
                wanted.tell(f"copying {wanted.rows or wanted.total:,} rows into schema {name}")
                with connection.transaction():
                    rows = _make(connection, wanted, table, name)
                connection.execute(
                    sql.render("ANALYZE {table}", table=sql.name(name, table.name)).encode()
                )
            yield Copy(
                where=f"schema {name} of the same database",
                connect=wanted.connect,
                spec=wanted.spec.model_copy(update={"schema_": name, "models": None}),
                ledger_schema=f"{name}{LEDGER}",
                rows=rows,
                lacks=_lacks(table),
            )
        except psycopg.errors.InsufficientPrivilege as error:
            raise RefusedError(
                f"The scratch schema {name} cannot be made: {error.diag.message_primary}.",
                "Nothing was changed. Grant CREATE on the database, or rehearse with "
                "--scratch embedded.",
            ) from error
        finally:
            _drop(holder, name)


def _make(connection: Connection, wanted: Scratch, table: Table, schema: str) -> int:
    """Make types, table and rows; return how many rows there are."""
    for text in wanted.holding(connection):
        connection.execute(text.encode())
    wanted.require_known(connection)
    connection.execute(sql.render("CREATE SCHEMA {name}", name=schema).encode())
    for type_ in wanted.catalog.types.values():
        connection.execute(
            sql.render(
                "CREATE TYPE {name} AS ENUM ({labels})",
                name=sql.name(schema, type_.name),
                labels=sql.values(type_.labels),
            ).encode()
        )
    made = sql.name(schema, table.name)
    connection.execute(
        sql.render(
            "CREATE TABLE {made} (LIKE {table} INCLUDING ALL)",
            made=made,
            table=sql.name(table.schema, table.name),
        ).encode()
    )
    _name_indexes(connection, table, schema)
    _own_sequences(connection, table, schema)
    return connection.execute(
        sql.render(
            "INSERT INTO {made} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {source}",
            made=made,
            columns=wanted.columns(),
            source=wanted.relation(),
        ).encode()
    ).rowcount


def _name_indexes(connection: Connection, table: Table, schema: str) -> None:
    """Give the copied indexes, and the constraints that they serve, the names of the originals:
    LIKE makes them in the order of their OIDs, and gives them names of its own."""
    pairs = connection.execute(_INDEX_PAIRS, [table.oid, schema, table.name]).fetchall()
    if any(old is None or new is None for old, new in pairs):
        raise RefusedError(
            f"The indexes of {table.schema}.{table.name} are not all in the copy.",
            "Nothing was changed. Rehearse with --scratch database.",
        )
    # First out of each other's way: one may have been given what is another one's name.
    for place, (_, new) in enumerate(pairs):
        _rename_index(connection, schema, new, f"{PREFIX}{place}")
    for place, (old, _) in enumerate(pairs):
        _rename_index(connection, schema, f"{PREFIX}{place}", old)


def _rename_index(connection: Connection, schema: str, name: str, to: str) -> None:
    statement = sql.render(
        "ALTER INDEX {index} RENAME TO {to}", index=sql.name(schema, name), to=to
    )
    connection.execute(statement.encode())


def _own_sequences(connection: Connection, table: Table, schema: str) -> None:
    """Give a serial column a sequence of the copy's own, and an identity column's its name."""
    for one in table.sequences:
        column = table.column(one.column)
        found = connection.execute(_SEQUENCE, [schema, table.name, one.column]).fetchone()
        parts = {"made": sql.name(schema, table.name), "column": sql.name(one.column)}
        if column and column.identity and found and found[0]:
            if found[0] != one.name:
                text = sql.render(
                    "ALTER SEQUENCE {old} RENAME TO {new}",
                    old=sql.name(schema, found[0]),
                    new=one.name,
                )
                connection.execute(text.encode())
            continue
        sequence = sql.name(schema, one.name)
        for text in (
            sql.render(
                "CREATE SEQUENCE {sequence} OWNED BY {made}.{column}", sequence=sequence, **parts
            ),
            sql.render(
                "ALTER TABLE {made} ALTER COLUMN {column} SET DEFAULT nextval({sequence})",
                **{**parts, "sequence": sql.named(schema, one.name)},
            ),
        ):
            connection.execute(text.encode())


def _lacks(table: Table) -> tuple[str, ...]:
    """Return what LIKE does not copy, as far as the table has it."""
    keys = sum(one.kind == "f" for one in table.constraints)
    triggers = {one.name for one in (*table.update_triggers, *table.before_triggers)}
    return (
        *((f"{keys} foreign keys",) if keys else ()),
        *((f"triggers: {', '.join(sorted(triggers))}",) if triggers else ()),
        *(("row-level security",) if table.row_security else ()),
        "views, grants and everything else that depends on the table",
    )


def _drop(connection: Connection, name: str) -> None:
    """Drop a scratch schema and its ledger's."""
    for schema in (name, f"{name}{LEDGER}"):
        text = sql.render("DROP SCHEMA IF EXISTS {schema} CASCADE", schema=schema)
        connection.execute(b"SET client_min_messages = warning")
        connection.execute(text.encode())


def _drop_abandoned(connection: Connection) -> None:
    """Drop what rehearsals that were killed have left behind."""
    for (name,) in connection.execute(_SCHEMAS, [f"{PREFIX}%", f"%{LEDGER}"]).fetchall():
        if is_abandoned(connection, name):
            _drop(connection, name)


_INDEX_PAIRS = """\
SELECT o.relname::text, n.relname::text FROM
    (SELECT c.relname, row_number() OVER (ORDER BY c.oid) AS place
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s) AS o
FULL JOIN
    (SELECT c.relname, row_number() OVER (ORDER BY c.oid) AS place
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace s ON s.oid = t.relnamespace
     WHERE s.nspname = %s AND t.relname = %s) AS n USING (place) ORDER BY place"""

_SEQUENCE = """\
SELECT s.relname::text FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid
JOIN pg_depend d ON d.refobjid = t.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE n.nspname = %s AND t.relname = %s AND a.attname = %s"""

_SCHEMAS = """\
SELECT nspname::text FROM pg_namespace
WHERE starts_with(nspname, rtrim(%s, '%%')) AND NOT nspname LIKE %s
  AND pg_has_role(nspowner, 'USAGE')"""
