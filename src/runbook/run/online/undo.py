"""Taking back an online run that was stopped: everything it added, in one short transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.errors import RefusedError, RolledBack, RunbookError
from runbook.facts import Act, Catalog, Table
from runbook.operations.base import taking_back
from runbook.plan import Plan, progress
from runbook.run.dropping import still_there
from runbook.run.online.guard import guarded
from runbook.run.online.indexing import state_of
from runbook.run.online.journal import Journal
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.rollback import what_failed
from runbook.trust.preflight import require_trusted
from runbook.vocabulary import Phase, Role, State, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Tell = Callable[[Phase, str, float], None]


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """An unfinished run that was taken back."""

    run_id: str
    phase: str
    """Where it had stopped."""
    rows: int
    """Rows that it had updated: their column is gone, all else is as it was."""


def take_back(
    connect: Connect,
    catalog: Catalog,
    plan: Plan,
    *,
    wait_ms: int,
    max_wait_ms: int,
    trust_owner_code: bool = False,
    journal: Journal,
    tell: Tell = lambda phase, text, share: None,
) -> TakenBack:
    """Remove everything that the unfinished run added, by its plan, which may be run.

    Raises `RefusedError` if the run is at work or the table cannot be locked, and `RolledBack`
    where a statement fails: something else may use by now what would go.
    """
    unfinished, table = catalog.unfinished, catalog.table
    assert unfinished is not None and table is not None
    done: list[bool] = []

    def _judge(connection: psycopg.Connection[Any]) -> None:
        require_trusted(
            connection,
            [(table.schema, table.name)],
            acts=frozenset({Act.DEFINE}),
            ledger_schema=plan.ledger_schema,
            trusted=trust_owner_code,
        )

    with _failing_well(done), guarded(connect, table, wait_ms=wait_ms), connect() as connection:
        statements = list(_undoing(connection, plan, table))
        short = Short(
            connect=connect,
            table=table,
            journal=journal,
            max_wait_s=max_wait_ms / 1000,
            tell=tell,
        )
        with journal.phase(Phase.ROLLBACK):
            short.run(
                Transaction(
                    phase=Phase.ROLLBACK,
                    statements=statements,
                    judge=_judge,
                    finale=(
                        progress.end_run(plan.ledger_schema, unfinished.run_id, "rolled back"),
                    ),
                    committed=lambda: done.append(True),
                )
            )
    return TakenBack(run_id=unfinished.run_id, phase=unfinished.phase, rows=unfinished.rows)


@contextmanager
def _failing_well(done: list[bool]) -> Iterator[None]:
    """Say of every failure that nothing was taken back, unless it is `done`."""
    try:
        yield
    except LostCommit:
        raise RunbookError(
            "The connection was lost while committing: the run is taken back, or it is not.",
            "`runbook status` tells which.",
        ) from None
    except (psycopg.Error, KeyboardInterrupt) as error:
        if done:
            return
        raise RolledBack(
            what_failed(error),
            "Nothing was taken back: the run can still be resumed. Remove what uses its column or "
            "type by now, then roll back again.",
        ) from error


def _undoing(connection: psycopg.Connection[Any], plan: Plan, table: Table) -> list[Statement]:
    """Return the settings and the lock of the plan's first transaction, then what takes each of
    its statements back, the last one first, and what is left of its indexes after them: one that a
    partition's return has attached goes with the table's. What is for a partition that is none of
    the table's any more is left alone, and what somebody has dropped already is no hindrance."""
    first = plan.of_phase(Phase.EXPAND)
    opening = [one for one in first if one.role in {Role.SETTING, Role.LOCK}]
    own = [one for one in plan.of_phase(Phase.INDEX) if one.table in (None, *table.leaves)]
    done = [*(one for one in own if _is_there(connection, one)), *first]
    return [*opening, *still_there(connection, [*taking_back(reversed(done))])]


def _is_there(connection: psycopg.Connection[Any], statement: Statement) -> bool:
    """Return whether a concurrent statement has left anything that is ours."""
    state = state_of(connection, statement)
    if state is State.FOREIGN:
        raise RefusedError(
            f"{statement.title}: something else has its name by now.",
            "Nothing was changed. Rename that, then roll back again.",
        )
    return state is not State.ABSENT
