"""Whatever of a run's own somebody removes by hand: it says so, and can be taken back."""

from collections.abc import Iterator

import pytest

from runbook.errors import CannotResume
from tests.conftest import Cluster, Database
from tests.dumps import difference, dumped
from tests.migrating import findings_of, migrate_online, take_back
from tests.run.states import CASE, STATES, made
from tests.run.wayback.rolling_back import examined, roll_back

FUNCTION = '"runbook_classify_tickets_state_2"'
OWN = {
    "trigger on insert": 'DROP TRIGGER "~runbook_insert_state_2" ON tickets',
    "trigger on update": 'DROP TRIGGER "~runbook_update_state_2" ON tickets',
    "function": f"DROP FUNCTION {FUNCTION} CASCADE",
    "column": "ALTER TABLE tickets DROP COLUMN state_2 CASCADE",
    "type": "DROP TYPE ticket_state CASCADE",
    "all of it": f"DROP FUNCTION {FUNCTION} CASCADE; DROP TYPE ticket_state CASCADE",
}


@pytest.fixture
def pair(newest: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[Database, Database]]:
    """A database in the state that the test names, and one as it was before."""
    database, before = made(request.param, newest)
    yield database, before
    newest.drop(database)
    newest.drop(before)


@pytest.mark.parametrize("gone", OWN)
@pytest.mark.parametrize(
    "pair",
    [
        "stopped at cutover",
        *(
            pytest.param(one, marks=pytest.mark.soak)
            for one in ("stopped at backfill", "stopped at index")
        ),
    ],
    indirect=True,
)
def test_a_stopped_run_says_what_is_gone_and_is_taken_back(
    gone: str, pair: tuple[Database, Database]
) -> None:
    database, before = pair
    database.execute(OWN[gone])
    with pytest.raises(CannotResume) as caught:
        migrate_online(database, CASE.spec)
    assert "Somebody has dropped" in caught.value.message
    assert "`runbook rollback`" in caught.value.remedy
    take_back(database, CASE.spec)
    assert not difference(dumped(before), dumped(database))


@pytest.mark.parametrize("pair", ["stopped at cutover"], indirect=True)
def test_an_index_that_is_gone_is_built_again(pair: tuple[Database, Database]) -> None:
    database, _ = pair
    database.execute("DROP INDEX issues_state_2_priority_idx")
    migrate_online(database, CASE.spec)
    assert database.value("SELECT to_regclass('issues_state_2_priority_idx') IS NOT NULL")


SERVING = {
    "index": "DROP INDEX issues_state_2_priority_idx",
    "view": "DROP VIEW tickets",
    "triggers": f"DROP FUNCTION {FUNCTION} CASCADE",
}


@pytest.mark.parametrize("gone", SERVING)
@pytest.mark.parametrize("pair", ["applied online with a view"], indirect=True)
def test_an_applied_run_is_taken_back_without_it(
    gone: str, pair: tuple[Database, Database]
) -> None:
    database, before = pair
    database.execute(SERVING[gone])
    back = roll_back(database, CASE.spec)
    assert back.rows.passed is True and not back.catalog.wrong
    assert not difference(dumped(before), dumped(database))


@pytest.mark.parametrize("pair", ["applied"], indirect=True)
def test_a_column_that_is_gone_is_named_with_what_to_do(pair: tuple[Database, Database]) -> None:
    database, _ = pair
    database.execute("ALTER TABLE issues DROP COLUMN state_2")
    found = next(one for one in examined(database, CASE.spec) if one.code == "gone")
    assert "'state_2'" in found.message


@pytest.mark.parametrize("pair", [one for one in STATES if "stopped" in one], indirect=True)
def test_what_a_run_left_that_no_ledger_knows_blocks_another_one(
    pair: tuple[Database, Database],
) -> None:
    database, _ = pair
    database.execute("DROP SCHEMA runbook CASCADE")
    spec = STATES["stopped, partitioned"].case.spec
    (found,) = (one for one in findings_of(database, spec) if one.code == "run-left-behind")
    assert "~runbook_insert_state_2" in found.message
    statements = found.remedy.partition(": ")[2]
    database.execute(*statements.rstrip(".").split("; "))
    assert not [one for one in findings_of(database, spec) if one.code == "run-left-behind"]
