"""One run at a time on a table: a transaction-level advisory lock, polled.

Transaction-level, because a pooler in transaction mode orphans session-level ones; polled, because
a session that blocks on an advisory lock deadlocks with a concurrent index build (PostgreSQL docs,
13.3.5).
"""

import time
from typing import Any

import psycopg

from runbook.catalog.ledger import lock_key
from runbook.catalog.queries import LOCK_HOLDER
from runbook.errors import RunInProgress
from runbook.facts import Table

POLL_MS = 100

_TRY = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


def exclude_others(connection: psycopg.Connection[Any], table: Table, *, wait_ms: int) -> None:
    """Take the table's advisory lock for the open transaction, trying for `wait_ms`.

    Raises `RunInProgress`, which says who holds it.
    """
    key = lock_key(table.schema, table.name)
    deadline = time.monotonic() + wait_ms / 1000
    while not _one(connection.execute(_TRY, [key]))[0]:
        if time.monotonic() >= deadline:
            raise _in_progress(connection, table, key)
        time.sleep(POLL_MS / 1000)


def _in_progress(connection: psycopg.Connection[Any], table: Table, key: str) -> RunInProgress:
    holder = connection.execute(LOCK_HOLDER, [key]).fetchone()
    who = holder[0] if holder else "it has just ended"
    return RunInProgress(
        f"Another run is at work on {table.schema}.{table.name} ({who}).",
        "Nothing was changed. Wait until it has ended, then run again.",
    )


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row
