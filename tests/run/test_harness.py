"""Every kind of migration in both modes: failed at a statement, taken back, completed, rolled back
and completed again; each time catalog and data are what they must be."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import pytest

from runbook.errors import RunbookError
from runbook.operations import AnyOperation
from runbook.plan import Options, Plan, build_plan
from runbook.run.online import Limits
from runbook.spec import shipped_specs
from runbook.vocabulary import Phase
from tests import migrating
from tests.cases import CASES, Case
from tests.conftest import MAJORS, Cluster, Database, cluster_of
from tests.migrating import ATOMIC, ONLINE, catalog_of, check, migrate, migrate_online
from tests.run.faults import WAYS, Fault, Killed, Way
from tests.run.wayback.rolling_back import roll_back
from tests.state import database_state, logical_state

Mode = Literal["atomic", "online"]
MODES: tuple[Mode, ...] = ("atomic", "online")

SMALL = Limits(batch_ms=1, jobs=2, max_wait_ms=5_000)


class Harness:
    """A database, and the migration that is driven on it."""

    def __init__(self, cluster: Cluster, case: Case, mode: Mode) -> None:
        self.case, self.mode, self.spec = case, mode, case.spec
        self.database = case.make(cluster)
        self.before = logical_state(self.database)
        self.wanted, self.stays = _ends(cluster, case)

    def _plan(self, mode: Mode) -> Plan:
        return _plan(self.database, self.case, mode)

    def run(self, fault: Fault) -> None:
        """Start, and come to an end whatever is struck."""
        way: Any = {"atomic": migrate, "online": migrate_online}[self.mode]
        limits = {"limits": SMALL} if self.mode == "online" else {}
        try:
            way(
                self.database,
                self.spec,
                plan=self._plan(self.mode),
                connect=lambda: fault.connect(self.database),
                **limits,
            )
        finally:
            fault.bury(self.database)

    def fail(self, at: int, way: Way) -> None:
        """Start, fail, and hold that nothing is left of it once it is taken back."""
        with self.database.connect() as connection:
            exactly = database_state(connection)
            with suppress(Killed, RunbookError):
                self.run(Fault(at, way))
            if self.mode == "atomic" and database_state(connection) == exactly:
                return
        if catalog_of(self.database, self.spec).unfinished:
            assert self.mode == "online"
            migrating.take_back(self.database, self.spec)
        elif logical_state(self.database) == self.wanted != self.before:
            self.roll_back()  # what was struck came after the commit
        assert logical_state(self.database) in (self.before, self.stays), (at, way)

    def complete(self) -> int:
        """Run to the end, and hold that it is the one it always is; return its statements."""
        fault = Fault(at=10**9)
        self.run(fault)
        assert logical_state(self.database) == self.wanted
        results = check(self.database, self.spec).values()
        assert [one for one in results if not one.passed] == []
        return fault.count

    def roll_back(self) -> None:
        """Take the finished run back, and hold that all is as it was."""
        back = roll_back(self.database, self.spec)
        assert back.rows.passed and back.catalog.wrong == back.catalog.new == ()
        assert logical_state(self.database) == self.stays


def _plan(database: Database, case: Case, mode: Mode) -> Plan:
    options: Options = replace(ATOMIC if mode == "atomic" else ONLINE, **case.options)
    return build_plan(case.spec, catalog_of(database, case.spec), options)


def _ends(cluster: Cluster, case: Case) -> tuple[Any, Any]:
    """Return the state after an undisturbed atomic run, and that which stays when it is taken back:
    with the labels that were added, which no PostgreSQL can take away."""
    database = case.make(cluster)
    plan = _plan(database, case, "atomic")
    database.execute(*(one.sql for one in plan.of_phase(Phase.PREPARE)))
    stays = logical_state(database)
    migrate(database, case.spec, plan=_plan(database, case, "atomic"))
    wanted = logical_state(database)
    cluster.drop(database)
    return wanted, stays


def drive(cluster: Cluster, name: str, mode: Mode, *, every: int, first: int, shift: int) -> None:
    """Drive a migration: fail at every so-manieth statement, each time in another way."""
    harness = Harness(cluster, CASES[name], mode)
    statements = harness.complete()
    harness.roll_back()
    for turn, place in enumerate(range(first, statements + 1, every)):
        harness.fail(place, WAYS[(turn + shift) % len(WAYS)])
    harness.complete()
    harness.roll_back()
    harness.complete()
    cluster.drop(harness.database)


EVERY = {"atomic": 8, "online": 80}
"""Of so many statements one is struck in the suite."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_what_fails_leaves_nothing_and_what_is_complete_is_always_the_same(
    name: str, mode: Mode, clusters: dict[int, Any]
) -> None:
    """Each on one of the versions; `make soak` takes all of them, and every statement."""
    turn = list(CASES).index(name)
    major = MAJORS[(turn + MODES.index(mode)) % len(MAJORS)]
    first = 1 + 7 * turn % EVERY[mode]
    drive(cluster_of(clusters, major), name, mode, every=EVERY[mode], first=first, shift=turn)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_failure_at_any_statement_leaves_nothing(
    name: str, mode: Mode, major: int, part: int, clusters: dict[int, Any]
) -> None:
    """Over the versions, each statement fails in each way."""
    shift = MAJORS.index(major) + 2 * part
    drive(cluster_of(clusters, major), name, mode, every=2, first=1 + part, shift=shift)


def test_every_shipped_spec_and_every_operation_is_driven() -> None:
    specs = [case.spec for case in CASES.values()]
    assert set(shipped_specs()) <= {spec.name for spec in specs}
    driven = {type(operation) for spec in specs for operation in spec.operations}
    assert driven == set(AnyOperation.__origin__.__args__)  # type: ignore[attr-defined]
