"""Asking the catalog: rows as dictionaries, in a snapshot, with names printed alike for all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from runbook.trust.settings import pinned

Connection = psycopg.Connection[Any]


def rows(
    connection: Connection, query: Any, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a query; a `%` in it stands twice."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters or {}).fetchall()


@contextmanager
def snapshot(connection: Connection, holding: Sequence[str] = ()) -> Iterator[None]:
    """Open a read-only, repeatable-read transaction, and leave the connection as it was. It begins
    with the statements `holding`, which lock before the snapshot is taken."""
    before = connection.isolation_level, connection.read_only
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = not holding
    try:
        with connection.transaction():
            for text in (*holding, *(["SET TRANSACTION READ ONLY"] if holding else [])):
                connection.execute(text.encode())
            yield
    finally:
        connection.isolation_level, connection.read_only = before


@contextmanager
def plain_search_path(connection: Connection) -> Iterator[None]:
    """Have definitions printed alike, whatever the role's settings: with every name qualified, and
    constants in one form."""
    plain = {name: ", ".join(values) for name, values in pinned()} | {"search_path": ""}
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)"
    before = dict(connection.execute(query, [list(plain)]).fetchall())
    for settings in (plain, before):
        connection.execute(
            "SELECT set_config(key, value, true) FROM jsonb_each_text(%s)", [Jsonb(settings)]
        )
        if settings is plain:
            yield
