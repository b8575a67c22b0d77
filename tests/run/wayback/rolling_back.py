"""Shortcuts to a rollback, as the notebook goes about it."""

import uuid
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.catalog.ledger import read_recorded
from runbook.facts import Recorded
from runbook.plan import Plan, believed_plan, blockers
from runbook.plan.remade import Vouch
from runbook.run.drift import Differences
from runbook.run.online import Journal
from runbook.run.wayback import Comparison, HandSet, TakingBack, Undone
from runbook.spec import Spec, load_spec
from runbook.vocabulary import Finding
from tests.conftest import Database


@dataclass(frozen=True, kw_only=True)
class RolledBackRun:
    """What a rollback did, and how it compares."""

    undone: Undone
    rows: Comparison
    catalog: Differences


def examined(database: Database, spec: Spec | None = None) -> tuple[Finding, ...]:
    """Return all that is said before the run is taken back."""
    with database.session() as connection:
        return _way(connection, spec).examine(connection)


def refusals(database: Database, spec: Spec | None = None) -> tuple[Finding, ...]:
    """Return what speaks against taking the run back, hand-set labels apart."""
    found = blockers(examined(database, spec))
    return tuple(one for one in found if one.code != "categories-set-by-hand")


def hand_set_of(database: Database, spec: Spec | None = None) -> HandSet:
    """Return the labels that the rules do not give."""
    with database.session() as connection:
        way = _way(connection, spec)
        way.examine(connection)
    assert way.hand_set is not None
    return way.hand_set


def roll_back(database: Database, spec: Spec | None = None, **more: Any) -> RolledBackRun:
    """Take the run back, and compare; `connect`, `discard`, `lock_budget_ms` and what is called
    `between` the counting and the transaction may be given."""
    journal = Journal()
    called = {name: more.pop(name, lambda: None) for name in ("between", "after")}
    connect = more.pop("connect", database.session)
    with database.session() as connection:
        way = _way(connection, spec, **{"max_wait_ms": 2000, **more})
        assert way.recorded.taken_back_at is None
        way.examine(connection)
        way.fingerprint(connection, journal)
        called["between"]()
        undone = way.undo(connect, journal)
        called["after"]()
        _, rows = way.compare(connection, journal)
    assert way.catalog is not None
    return RolledBackRun(undone=undone, rows=rows, catalog=way.catalog)


def _way(connection: psycopg.Connection[Any], spec: Spec | None, **more: Any) -> TakingBack:
    recorded = read_recorded(connection, "runbook", spec or load_spec("llamalog"))
    assert recorded is not None
    return TakingBack(
        recorded=recorded,
        plan=believed(
            recorded,
            spec or load_spec("llamalog"),
            vouched=more.pop("vouched", lambda sha256: False),
        ),
        rollback_id=uuid.uuid4(),
        wait_ms=300,
        **more,
    )


def believed(recorded: Recorded, spec: Spec, *, vouched: Vouch = lambda sha256: False) -> Plan:
    """Return a recorded plan that is made again: in a test nobody vouches for one."""
    return believed_plan(
        recorded.plan, recorded.entry.plan_sha256, spec, run="the run", vouched=vouched
    )
