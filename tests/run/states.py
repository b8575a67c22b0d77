"""Every state that a run can leave a database in, and what must hold wherever that is restored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from runbook.catalog.ledger import read_recorded
from runbook.plan import build_plan
from runbook.spec import Spec
from tests.cases import CASES, Case
from tests.conftest import Cluster, Database
from tests.dumps import difference, dumped
from tests.migrating import (
    ATOMIC,
    ONLINE,
    catalog_of,
    check,
    migrate,
    migrate_online,
    stop_online,
    take_back,
)
from tests.run.wayback.rolling_back import roll_back

CASE = CASES["few rows differ"]


def _with_view(database: Database, spec: Spec) -> None:
    catalog = catalog_of(database, spec)
    plan = build_plan(spec, catalog, replace(ATOMIC, old_name_view=True))
    migrate(database, spec, catalog=catalog, plan=plan)


def _online_with_view(database: Database, spec: Spec) -> None:
    catalog = catalog_of(database, spec)
    plan = build_plan(spec, catalog, replace(ONLINE, old_name_view=True))
    migrate_online(database, spec, catalog=catalog, plan=plan)


def _rolled_back(database: Database, spec: Spec) -> None:
    migrate(database, spec)
    roll_back(database, spec)


@dataclass(frozen=True, kw_only=True)
class State:
    """A state: how a database gets there, and what is to be found in it."""

    make: Callable[[Database, Spec], object]
    is_applied: bool = False
    is_unfinished: bool = False
    case: Case = CASE


def _stopped(phase: str, case: Case = CASE) -> State:
    return State(
        make=lambda database, spec: stop_online(database, phase, spec),
        is_unfinished=True,
        case=case,
    )


STATES: Mapping[str, State] = {
    "nothing was run": State(make=lambda database, spec: None),
    "stopped at backfill": _stopped("backfill"),
    "stopped at index": _stopped("index"),
    "stopped at cutover": _stopped("cutover"),
    "stopped, partitioned": _stopped("index", CASES["partitioned"]),
    "applied": State(make=migrate, is_applied=True),
    "applied online": State(make=migrate_online, is_applied=True),
    "applied with a view": State(make=_with_view, is_applied=True),
    "applied online with a view": State(make=_online_with_view, is_applied=True),
    "applied, partitioned": State(make=migrate_online, is_applied=True, case=CASES["partitioned"]),
    "rolled back": State(make=_rolled_back),
}


def made(name: str, cluster: Cluster) -> tuple[Database, Database]:
    """Return a database in a state, and one as it was before."""
    state = STATES[name]
    database = state.case.make(cluster)
    before = cluster.make(database.name)
    state.make(database, state.case.spec)
    return database, before


def require_right(name: str, database: Database, before: Database, *, restored: bool) -> None:
    """Require that a database is known to be in its state, goes on from it, and goes back from it
    to what it was before."""
    state = STATES[name]
    spec = state.case.spec
    catalog = catalog_of(database, spec)
    assert (catalog.unfinished is not None) == state.is_unfinished
    assert (catalog.applied is not None) == state.is_applied
    for entry in (catalog.unfinished, catalog.applied):
        assert entry is None or entry.is_restored == restored
    if not state.is_applied:
        (migrate_online if state.is_unfinished else migrate)(database, spec)
    results = check(database, spec)
    assert all(one.passed for one in results.values()), results
    with database.session() as connection:
        assert read_recorded(connection, "runbook", spec) is not None
    back = roll_back(database, spec)
    assert back.rows.passed is True and not back.catalog.wrong
    assert not difference(dumped(before), dumped(database))


def require_taken_back(name: str, database: Database, before: Database) -> None:
    """Require that an unfinished run can be taken back, and leaves what was before it."""
    take_back(database, STATES[name].case.spec)
    assert not difference(dumped(before), dumped(database))
