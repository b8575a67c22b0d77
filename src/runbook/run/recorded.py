"""Asking the ledger whether a run was committed whose COMMIT was never answered."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import RefusedError, RunbookError

POLL_S = 0.1


def is_recorded(
    connect: Callable[[], psycopg.Connection[Any]],
    ledger_schema: str,
    run_id: uuid.UUID,
    *,
    lost_pid: int,
    wait_ms: int,
    table: str = "ledger",
) -> bool:
    """Return whether the ledger holds the run, once the session is gone that was to commit it: as
    applied, or, if `table` is `rollback`, as taken back.

    Raises `RunbookError` if nobody answers, or if the session is still there after `wait_ms`.
    """
    query = sql.render(
        "SELECT count(*) FROM {ledger} WHERE run_id = {run_id}",
        ledger=sql.name(ledger_schema, table),
        run_id=sql.value(run_id),
    )
    deadline = time.monotonic() + wait_ms / 1000
    try:
        with connect() as connection:
            while _count(connection, _SESSION, [lost_pid]):
                if time.monotonic() >= deadline:
                    raise _unknown(run_id, table)
                time.sleep(POLL_S)
            return _count(connection, query) > 0
    except psycopg.errors.UndefinedTable:
        return False
    except (psycopg.Error, RefusedError):
        raise _unknown(run_id, table) from None


def pid_of(connection: psycopg.Connection[Any]) -> int:
    """Return the server's process of a session, as the server itself says."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def _unknown(run_id: uuid.UUID, table: str) -> RunbookError:
    if table == "rollback":
        return RunbookError(
            "The connection was lost while committing, and the server does not answer: the run is "
            "either taken back whole or not at all.",
            "When the server is back, `runbook status` tells which.",
        )
    return RunbookError(
        "The connection was lost while committing, and the server does not answer: the migration "
        "is either whole or not there at all.",
        f"When the server is back, run again: it finds run {run_id} in the ledger, or applies the "
        "plan.",
    )


def _count(connection: psycopg.Connection[Any], query: str, values: list[int] | None = None) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    return int(row[0]) if row else 0


_SESSION = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
