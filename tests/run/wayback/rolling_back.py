"""Shortcuts to a rollback, as the notebook goes about it."""

import uuid
from dataclasses import dataclass
from typing import Any

from runbook.catalog import read_table_named, snapshot
from runbook.catalog.ledger import read_recorded
from runbook.catalog.written import written
from runbook.plan import blockers
from runbook.run.drift import Differences, differences
from runbook.run.online import Journal
from runbook.run.wayback import (
    Comparison,
    HandSet,
    Undo,
    Undone,
    compare_tallies,
    obstacles,
    read_hand_set,
    recorded_plan,
    tally,
)
from runbook.settings import for_reading
from runbook.spec import Spec, load_spec
from runbook.vocabulary import Finding, Role
from tests.conftest import Database


@dataclass(frozen=True, kw_only=True)
class RolledBackRun:
    """What a rollback did, and how it compares."""

    undone: Undone
    rows: Comparison
    catalog: Differences


def refusals(database: Database, spec: Spec | None = None) -> tuple[Finding, ...]:
    """Return what speaks against taking the run back."""
    with database.connect() as connection:
        recorded = read_recorded(connection, "runbook", spec or load_spec("llamalog"))
        assert recorded is not None
        plan = recorded_plan(recorded)
        with snapshot(connection):
            table = read_table_named(connection, plan.schema, plan.table_after)
            return blockers(obstacles(connection, recorded, plan, table))


def hand_set_of(database: Database, spec: Spec | None = None) -> HandSet:
    """Return the labels that the rules do not give."""
    with database.connect() as connection:
        recorded = read_recorded(connection, "runbook", spec or load_spec("llamalog"))
        assert recorded is not None
        plan = recorded_plan(recorded)
        with snapshot(connection):
            connection.execute(for_reading(plan.schema).encode())
            found = read_hand_set(connection, plan)
    assert found is not None
    return found


def roll_back(database: Database, spec: Spec | None = None, **more: Any) -> RolledBackRun:
    """Take the run back, and compare; `connect`, `discard`, `lock_budget_ms` and what is called
    `between` the counting and the transaction may be given."""
    journal = Journal()
    with database.connect() as connection:
        recorded = read_recorded(connection, "runbook", spec or load_spec("llamalog"))
        assert recorded is not None and recorded.taken_back_at is None
        plan = recorded_plan(recorded)
        with connection.transaction():
            table = read_table_named(connection, plan.schema, plan.table_after)
        assert table is not None
        counted = written(connection, table.oid)
        before = tally(connection, plan, Role.TALLY_BEFORE, journal)
        more.pop("between", lambda: None)()
        undone = Undo(
            connect=more.pop("connect", database.connect),
            recorded=recorded,
            plan=plan,
            table=table,
            rollback_id=uuid.uuid4(),
            before=before,
            discarded=0,
            discard=more.pop("discard", False),
            lock_budget_ms=more.pop("lock_budget_ms", 1000),
            wait_ms=300,
            max_wait_ms=more.pop("max_wait_ms", 2000),
            journal=journal,
        ).run()
        more.pop("after", lambda: None)()
        assert not more
        after = tally(connection, plan, Role.TALLY_AFTER, journal)
        rows = compare_tallies(connection, recorded.entry, before, after, counted)
        return RolledBackRun(undone=undone, rows=rows, catalog=differences(connection, plan))
