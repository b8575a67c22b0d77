"""Contracting: removing the view under the old name, and the triggers that serve it."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from runbook.errors import RolledBack, RunbookError
from runbook.facts import Table
from runbook.run.online.guard import guarded
from runbook.run.online.journal import Journal
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.rollback import what_failed
from runbook.vocabulary import Phase, Statement


def contract(
    connect: Callable[[], psycopg.Connection[Any]],
    table: Table,
    statements: Sequence[Statement],
    *,
    wait_ms: int,
    max_wait_ms: int,
    journal: Journal,
) -> None:
    """Run the recorded statements in one short transaction.

    Raises `RefusedError` if another run is at work or the table cannot be locked, and `RolledBack`
    where a statement fails.
    """
    short = Short(
        connect=connect,
        table=table,
        journal=journal,
        max_wait_s=max_wait_ms / 1000,
        tell=lambda phase, text, share: None,
    )
    try:
        with guarded(connect, table, wait_ms=wait_ms), journal.phase(Phase.CONTRACT):
            short.run(
                Transaction(phase=Phase.CONTRACT, statements=statements, judge=lambda _: None)
            )
    except LostCommit:
        raise RunbookError(
            "The connection was lost while committing: the view is gone, or it is not.",
            "Run again: it looks first.",
        ) from None
    except (psycopg.Error, KeyboardInterrupt) as error:
        raise RolledBack(
            what_failed(error), "It was rolled back: the view serves as before."
        ) from error
