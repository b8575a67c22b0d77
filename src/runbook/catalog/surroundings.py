"""Reading what is around the table: dependents, sessions, replicas, and the server's state."""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from runbook.catalog import related_queries, surroundings_queries
from runbook.catalog.mentions import mentions
from runbook.catalog.rows import Connection, plain_search_path, rows
from runbook.facts import (
    Activity,
    Ages,
    Kind,
    Prepared,
    Related,
    Replica,
    Server,
    Slot,
    Surroundings,
    Table,
)
from runbook.secrets import without_literals

SHOWN_CHARACTERS = 300
"""How much of a definition or statement is kept."""

POOLER_TRIES = 3
"""How often a second connection looks for the first one's session, until it is taken for one of
its own."""


def read_surroundings(connection: Connection, server: Server, table: Table) -> Surroundings:
    """Return what is around a table. Called in the catalog's snapshot; takes no lock on the table
    beyond ACCESS SHARE."""
    with plain_search_path(connection):
        return _read(connection, server, table)


def _read(connection: Connection, server: Server, table: Table) -> Surroundings:
    escaped = re.sub(r"(\W)", r"\\\1", table.name)
    pattern = f"(^|[^[:alnum:]_]){escaped}($|[^[:alnum:]_])"
    of = {"oid": table.oid, "pattern": pattern}
    state = rows(connection, surroundings_queries.STATE, of)[0]
    directory = state.pop("data_directory")
    return Surroundings(
        related=tuple(_related(connection, table, of)),
        activity=tuple(
            Activity(**{**row, "locks": tuple(row["locks"])})
            for row in rows(connection, surroundings_queries.ACTIVITY, of)
        ),
        prepared=tuple(
            Prepared(**row) for row in rows(connection, surroundings_queries.PREPARED, of)
        ),
        replicas=tuple(Replica(**row) for row in rows(connection, surroundings_queries.REPLICAS)),
        slots=tuple(Slot(**row) for row in rows(connection, surroundings_queries.SLOTS)),
        waits_for_replicas=state["waits_for_replicas"],
        ages=Ages(table=state["table"], freeze_max=state["freeze_max"], database=state["database"]),
        timeouts={
            row["name"]: row["ms"] for row in rows(connection, surroundings_queries.TIMEOUTS)
        },
        free_bytes=_free_bytes(connection, directory),
        hidden=tuple(_hidden(server, directory)),
    )


def read_pooler(connection: Connection, connect: Callable[[], Connection]) -> str | None:
    """Return `transaction` or `session` if a pooler is between, else None.

    A pooler answers with a process of its own at the start, and the server with another when it is
    asked. In transaction mode a session of the server serves whoever comes next: one that a second
    connection finds, or that is another one for the first connection's next transaction. Called
    outside of any transaction.
    """
    own = _pid(connection)
    if own == connection.info.backend_pid:
        return None
    for _ in range(POOLER_TRIES):
        with connect() as other:
            # Twice, since two that take turns at two sessions would each have its own.
            if _pid(other) == own or {_pid(connection), _pid(connection)} != {own}:
                return "transaction"
    return "session"


def _pid(connection: Connection) -> int:
    """Return the server's process that answers."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def _related(connection: Connection, table: Table, of: dict[str, Any]) -> Iterator[Related]:
    """Yield the related objects, kind by kind."""
    for row in rows(connection, related_queries.RELATED, of):
        yield Related(**{**row, "kind": Kind(row["kind"]), "detail": _short(row["detail"])})
    yield from _of_table(table)
    for row in rows(connection, related_queries.ROUTINES, of):
        found = mentions(row.pop("source"), table.name)
        if found:
            detail = _short("; ".join(found.lines))
            yield Related(kind=Kind.ROUTINE_TEXT, detail=detail, enabled=found.in_code, **row)
    yield from _statements(connection, of)


def _of_table(table: Table) -> Iterator[Related]:
    """Yield what the table's own facts say."""
    for column in table.columns:
        if column.generated:
            yield Related(
                kind=Kind.GENERATED, name=column.name, detail=_short(column.default or "")
            )
    for grant in table.grants:
        yield Related(
            kind=Kind.GRANT,
            name=grant.role or "PUBLIC",
            detail=", ".join(grant.rights)
            + (f" on column {grant.column}" if grant.column else "")
            + (" with grant option" if grant.grantable else ""),
        )
    for partition in table.partitions:
        yield Related(kind=Kind.PARTITION, name=f"{partition.schema}.{partition.name}")
    if table.parent:
        yield Related(kind=Kind.PARENT, name=table.parent)


def _statements(connection: Connection, of: dict[str, Any]) -> Iterator[Related]:
    """Yield what pg_stat_statements holds that names the table; nothing where it is not there, not
    loaded, or in a schema that the role may not use."""
    found = rows(connection, related_queries.STATEMENTS_VIEW)
    if not found:
        return
    try:
        with connection.transaction():
            called = rows(connection, related_queries.statements(found[0]["schema"]), of)
    except psycopg.Error:
        return  # in no shared_preload_libraries (55000), or not readable
    for row in called:
        # What is no query is kept with its literals (docs, F.32.1, pg_stat_statements).
        shown = without_literals(row["detail"])
        yield Related(kind=Kind.STATEMENT, name=row["name"], detail=_short(shown))


def _short(text: str) -> str:
    """Return text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def _free_bytes(connection: Connection, directory: str | None) -> int | None:
    """Return what is free on the data directory's disk, if the server runs on this machine."""
    if not directory or not connection.info.host.startswith("/"):
        return None
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None  # another machine behind the socket, or not to be reached by this user
    return disk.f_bavail * disk.f_frsize


def _hidden(server: Server, directory: str | None) -> Iterator[str]:
    """Yield what the role may not see, in words."""
    if not server.sees_others:
        yield "other roles' sessions, statements and replicas (pg_read_all_stats)"
    if directory is None:
        yield "where the server keeps its data (pg_read_all_settings)"
