"""An online run that is killed, wherever it is: the next one goes on to the same end."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from runbook.errors import ChecksFailed, ConnectionRefused, Stopped
from runbook.run.online import Limits
from tests.cases import CASES
from tests.conftest import Cluster, Database
from tests.migrating import catalog_of, check, migrate_online
from tests.run.faults import Fault, Killed
from tests.run.online.test_online import at
from tests.state import logical_state

SMALL = Limits(batch_ms=1, jobs=2, max_wait_ms=5_000)


def killed(database: Database, at: int, spec: Any) -> bool:
    """Run until it is killed; return whether it came to its end before."""
    fault = Fault(at)
    try:
        migrate_online(database, spec, connect=lambda: fault.connect(database), limits=SMALL)
    except Killed:
        return False
    finally:
        fault.bury(database)
    return True


def steps_of(cluster: Cluster, name: str) -> int:
    """Return how many statements an undisturbed run has, about."""
    spec, database = prepared(cluster, name)
    fault = Fault(10**9)
    migrate_online(database, spec, connect=lambda: fault.connect(database), limits=SMALL)
    cluster.drop(database)
    return fault.count


def prepared(cluster: Cluster, name: str) -> tuple[Any, Database]:
    return CASES[name].spec, CASES[name].make(cluster)


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[dict[tuple[int, str], Any]]:
    yield {}


def end_state(cluster: Cluster, name: str, known: dict[tuple[int, str], Any]) -> Any:
    if (cluster.major, name) not in known:
        spec, database = prepared(cluster, name)
        migrate_online(database, spec, limits=SMALL)
        known[cluster.major, name] = logical_state(database)
        cluster.drop(database)
    return known[cluster.major, name]


def strike_all(
    cluster: Cluster, name: str, places: range, known: dict[tuple[int, str], Any]
) -> None:
    wanted = end_state(cluster, name, known)
    for place in places:
        spec, database = prepared(cluster, name)
        killed(database, place, spec)
        if place % 3 == 1 and catalog_of(database, spec).applied is None:
            killed(database, max(1, place // 2), spec)
        if catalog_of(database, spec).applied is None:
            assert migrate_online(database, spec, limits=SMALL).proof.passed, place
        assert logical_state(database) == wanted, place
        assert database.value("SELECT count(*) FROM runbook.ledger") == 1, place
        assert database.value("SELECT bool_and(ended_at IS NOT NULL) FROM runbook.online_run"), (
            place
        )
        assert [one.id for one in check(database, spec).values() if not one.passed] == [], place
        cluster.drop(database)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(3))
def test_a_run_killed_now_and_then_is_resumed(
    part: int, newest: Cluster, undisturbed: dict[tuple[int, str], Any]
) -> None:
    """Every 8th statement; `make soak` takes all."""
    steps = steps_of(newest, "llamalog")
    strike_all(newest, "llamalog", range(1 + 8 * part, steps, 24), undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", ["llamalog", "classify first", "extended type"])
def test_a_run_killed_before_any_statement_is_resumed(
    name: str, part: int, cluster: Cluster, undisturbed: dict[tuple[int, str], Any]
) -> None:
    steps = steps_of(cluster, name)
    strike_all(cluster, name, range(1 + part, steps + 1, 4), undisturbed)


@pytest.mark.parametrize("committed", [True, False])
def test_a_cutover_whose_answer_is_lost_is_looked_up(
    committed: bool, sample_newest: Database
) -> None:
    """The run itself goes on: it knows which of the two it was."""

    lost: list[bool] = []

    class Losing(psycopg.Connection[Any]):
        def commit(self) -> None:
            row = self.execute("SELECT to_regclass('public.llama_logs') IS NOT NULL").fetchone()
            if row != (True,) or lost:
                return super().commit()
            lost.append(True)
            if committed:
                super().commit()
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    def run() -> bool:
        connect = lambda: Losing.connect(sample_newest.conninfo, autocommit=True)  # noqa: E731
        return migrate_online(sample_newest, connect=connect).proof.passed

    if committed:
        assert run()
    else:
        with pytest.raises(Stopped, match="lost while committing"):
            run()
        assert migrate_online(sample_newest).proof.passed
    assert [one.id for one in check(sample_newest).values() if not one.passed] == []


def test_a_server_that_is_gone_right_after_the_cutover_is_told_as_applied(
    sample_newest: Database,
) -> None:
    """The run is complete: nothing is left to be resumed, whatever comes then."""

    def connect() -> psycopg.Connection[Any]:
        if sample_newest.value("SELECT to_regclass('llama_logs') IS NOT NULL"):
            raise ConnectionRefused("Cannot connect.", "Look there.")
        return sample_newest.connect()

    with pytest.raises(ChecksFailed, match="Cannot connect") as caught:
        migrate_online(sample_newest, connect=connect)
    assert "is applied and proved" in caught.value.remedy
    assert sample_newest.value("SELECT count(*) FROM runbook.ledger") == 1


@pytest.mark.parametrize("phase", ["backfill", "index", "cutover"])
def test_what_is_said_of_a_lost_server_is_true(phase: str, sample: Database) -> None:
    """All its sessions are ended, as a server does that shuts down."""

    def end() -> None:
        sample.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'mortal' AND datname = current_database()"
        )

    death = Fault(10**9)
    with at(phase, "begins", end) as tell, pytest.raises(Stopped, match=r"was lost.*resume"):
        migrate_online(sample, connect=lambda: death.connect(sample), tell=tell, limits=SMALL)
    assert migrate_online(sample).proof.passed
    assert [one.id for one in check(sample).values() if not one.passed] == []
