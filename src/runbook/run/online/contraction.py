"""Contracting: removing the view under the old name, and the triggers that serve it."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from runbook.errors import RolledBack, RunbookError
from runbook.facts import Act, Table
from runbook.run.dropping import dropped, still_there
from runbook.run.online.guard import guarded
from runbook.run.online.journal import Journal
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.rollback import what_failed
from runbook.trust.preflight import require_trusted
from runbook.vocabulary import Phase, Statement


def left_to_drop(
    connection: psycopg.Connection[Any], statements: Sequence[Statement]
) -> tuple[Statement, ...]:
    """Return the recorded statements without those whose object is gone already: none, where
    nothing is left to be removed."""
    there = still_there(connection, statements)
    return tuple(there) if any(map(dropped, there)) else ()


def drops_view(statement: Statement) -> bool:
    """Return whether a recorded statement is the one that removes the view."""
    one = dropped(statement)
    return one is not None and one.kind == "VIEW"


def contract(
    connect: Callable[[], psycopg.Connection[Any]],
    table: Table,
    statements: Sequence[Statement],
    *,
    wait_ms: int,
    max_wait_ms: int,
    ledger_schema: str,
    trust_owner_code: bool = False,
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

    def _judge(connection: psycopg.Connection[Any]) -> None:
        require_trusted(
            connection,
            [(table.schema, table.name)],
            acts=frozenset({Act.DEFINE}),
            ledger_schema=ledger_schema,
            trusted=trust_owner_code,
        )

    try:
        with guarded(connect, table, wait_ms=wait_ms), journal.phase(Phase.CONTRACT):
            short.run(Transaction(phase=Phase.CONTRACT, statements=statements, judge=_judge))
    except LostCommit:
        raise RunbookError(
            "The connection was lost while committing: it is all gone, or all still there.",
            "Run again: it looks first.",
        ) from None
    except (psycopg.Error, KeyboardInterrupt) as error:
        raise RolledBack(
            what_failed(error), "It was rolled back: the view serves as before."
        ) from error
