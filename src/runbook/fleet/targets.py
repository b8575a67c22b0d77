"""The targets of a fleet: each a database, or a schema of one, found where the file says."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook import sql
from runbook.database import connect, in_database, resolve
from runbook.errors import RefusedError, UsageError
from runbook.fleet.file import FleetFile, Source
from runbook.spec import load_spec
from runbook.trust.given_query import require_trusted_query


@dataclass(frozen=True, kw_only=True)
class Target:
    """One database, or one schema of a database. Holds nothing secret: it is sent to workers."""

    name: str
    database_url: str
    spec: str
    """With the schema behind it, where that is not the spec's own."""


def find_targets(fleet: FleetFile) -> tuple[Target, ...]:
    """Return the targets in the file's order; what a query finds, in the order of its names.

    Raises `UsageError` where there are none, or two have the same name, and `RefusedError` where a
    server does not answer a query, or answering it would run somebody's code.
    """
    found = [target for source in fleet.targets for target in _of(source, fleet)]
    if not found:
        raise UsageError(
            f"The fleet {fleet.name!r} has no target: its queries and patterns find none.",
            "Correct them; each is asked in the database that its url leads to.",
        )
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice:
        raise UsageError(
            f"The fleet {fleet.name!r} has more than one target that is called {twice[0]!r}.",
            "Give each [[target]] a name of its own: it stands before what it finds.",
        )
    return tuple(found)


def _of(source: Source, fleet: FleetFile) -> Iterator[Target]:
    """Yield the targets of one entry of the file."""
    before = f"{source.name}/" if source.name else ""
    if source.databases:
        for name in _asked(source.url, source.databases, ledger_schema=fleet.ledger_schema):
            url = in_database(source.url, name)
            yield Target(name=before + name, database_url=url, spec=fleet.spec)
    elif source.schemas:
        table = load_spec(fleet.spec)
        wanted = [source.schemas, [table.table, table.table_after]]
        for name in _asked(source.url, _SCHEMAS, wanted):
            yield Target(name=before + name, database_url=source.url, spec=f"{fleet.spec}@{name}")
    else:
        name = source.name or _name_of(source.url)
        yield Target(name=name, database_url=source.url, spec=fleet.spec)


_SCHEMAS = sql.render(
    """
SELECT DISTINCT n.nspname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname LIKE %s AND c.relname = ANY (%s) AND c.relkind IN ('r', 'p')
"""
)


def _asked(
    url: str, query: str, wanted: list[Any] | None = None, *, ledger_schema: str | None = None
) -> list[str]:
    """Return the first column of what a query answers, in order of its text; it may only read.

    One of the file's own comes with the ledger's schema. Raises `BlockedError` where it would run
    code of a less privileged role.
    """
    target = resolve(url)
    with connect(target, application="runbook fleet") as connection:
        try:
            with connection.transaction():
                if ledger_schema is not None:
                    require_trusted_query(connection, query, ledger_schema=ledger_schema)
                else:
                    connection.execute(b"SET TRANSACTION READ ONLY")
                rows = connection.execute(query.encode(), wanted).fetchall()
        except psycopg.Error as error:
            raise RefusedError(
                f"The query of the fleet's targets failed on {target.display} with error "
                f"{error.sqlstate}: {error.diag.message_primary}.",
                "Nothing was changed. Correct the query in the fleet's file.",
            ) from error
    return sorted(str(row[0]) for row in rows)


def _name_of(url: str) -> str:
    """Return what to call a database that was given no name."""
    display = resolve(url).display if "://" in url else url.partition(":")[2]
    return display.partition("?")[0].rpartition("/")[2] or display
