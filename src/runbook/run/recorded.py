"""Asking the ledger whether a run was committed whose COMMIT was never answered."""

import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import RefusedError, RunbookError
from runbook.facts import Table
from runbook.run.exclusion import exclude_others


def is_recorded(
    connect: Callable[[], psycopg.Connection[Any]],
    table: Table,
    ledger_schema: str,
    run_id: uuid.UUID,
    wait_ms: int,
) -> bool:
    """Return whether the ledger holds the run. Raises `RunbookError` if nobody answers."""
    query = sql.render(
        "SELECT count(*) FROM {ledger} WHERE run_id = {run_id}",
        ledger=sql.name(ledger_schema, "ledger"),
        run_id=sql.value(run_id),
    )
    try:
        with connect() as connection, connection.transaction():
            # The lost session holds this lock until its transaction has ended, whichever way.
            exclude_others(connection, table, wait_ms=max(wait_ms, 10_000))
            row = connection.execute(query.encode()).fetchone()
    except psycopg.errors.UndefinedTable:
        return False
    except (psycopg.Error, RefusedError):
        raise RunbookError(
            "The connection was lost while committing, and the server does not answer: the "
            "migration is either whole or not there at all.",
            f"When the server is back, run again: it finds run {run_id} in the ledger, or "
            "applies the plan.",
        ) from None
    return bool(row and row[0])
