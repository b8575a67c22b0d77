"""The rollback's transaction: all of it or nothing, and what it says of rows that others wrote."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from runbook.errors import BlockedError, RefusedError, RolledBack, RunbookError, RunInProgress
from runbook.plan import build_plan
from runbook.run.wayback import proof
from runbook.spec import load_spec
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, ONLINE, catalog_of, migrate, migrate_online
from tests.run.faults import Fault, Killed
from tests.run.test_atomic import unchanged
from tests.run.wayback.rolling_back import hand_set_of, roll_back
from tests.state import database_state, logical_state

SAME = "every row is as it was before the migration"


def with_view(database: Database, way: str = "atomic") -> None:
    spec, catalog = load_spec("llamalog"), catalog_of(database)
    options = replace({"atomic": ATOMIC, "online": ONLINE}[way], old_name_view=True)
    run: Any = {"atomic": migrate, "online": migrate_online}[way]
    run(database, catalog=catalog, plan=build_plan(spec, catalog, options))


# -- all or nothing -----------------------------------------------------------------------------


def killed_at(places: Iterable[int], database: Database) -> int:
    """Kill it before these statements, one after the other, until one is none of it any more;
    return how often it was."""
    applied = database_state_of(database)
    for killed, place in enumerate(places):
        fault = Fault(place)
        try:
            roll_back(database, connect=lambda fault=fault: fault.connect(database))
        except Killed:
            if database.value("SELECT count(*) FROM runbook.rollback"):
                return killed  # after its commit
        else:
            return killed
        finally:
            fault.bury(database)
        assert database_state_of(database) == applied, place
    raise AssertionError


@pytest.mark.parametrize(
    ("way", "first", "step"),
    [
        ("atomic", 3, 9),
        ("online", 7, 9),
        pytest.param("atomic", 1, 1, marks=pytest.mark.soak),
        pytest.param("online", 1, 1, marks=pytest.mark.soak),
    ],
)
def test_a_process_that_is_killed_before_any_statement_leaves_all_or_nothing(
    way: str, first: int, step: int, sample: Database
) -> None:
    """What is read before the transaction, and the guards, are among the statements."""
    before = logical_state(sample)
    with_view(sample, way)
    assert killed_at(range(first, 10**6, step), sample) > 60 // step
    assert logical_state(sample) == before


def database_state_of(database: Database) -> dict[str, Any]:
    with database.connect() as connection:
        return database_state(connection)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_looked_up(
    committed: bool, sample_newest: Database
) -> None:
    before = logical_state(sample_newest)
    migrate(sample_newest)
    lost: list[bool] = []

    class Losing(psycopg.Connection[Any]):
        def commit(self) -> None:
            if not self.execute("SELECT FROM runbook.rollback").fetchall() or lost:
                return super().commit()
            lost.append(True)
            if committed:
                super().commit()
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    def connect() -> psycopg.Connection[Any]:
        return Losing.connect(sample_newest.conninfo, autocommit=True)

    if committed:
        assert roll_back(sample_newest, connect=connect).rows.verdict == SAME
        assert logical_state(sample_newest) == before
    else:
        with unchanged(sample_newest), pytest.raises(RolledBack, match="lost while") as caught:
            roll_back(sample_newest, connect=connect)
        assert "Nothing was taken back" in caught.value.remedy
        assert roll_back(sample_newest).rows.verdict == SAME
    assert lost == [True]


def test_nobody_who_answers_after_the_commit(sample_newest: Database) -> None:
    migrate(sample_newest)
    gone: list[bool] = []

    class Losing(psycopg.Connection[Any]):
        def commit(self) -> None:
            if not self.execute("SELECT FROM runbook.rollback").fetchall():
                return super().commit()
            gone.append(True)
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    def connect() -> psycopg.Connection[Any]:
        if gone:
            raise psycopg.OperationalError("connection refused")
        return Losing.connect(sample_newest.conninfo, autocommit=True)

    with pytest.raises(RunbookError, match="either taken back whole or not at all"):
        roll_back(sample_newest, connect=connect)


def test_a_table_that_cannot_be_locked_is_refused(sample_newest: Database) -> None:
    migrate(sample_newest)
    with sample_newest.connect(application_name="nightly report") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM llama_logs LIMIT 1")
        with unchanged(sample_newest), pytest.raises(RefusedError, match="nightly report"):
            roll_back(sample_newest, max_wait_ms=300)
    assert roll_back(sample_newest).rows.verdict == SAME


@pytest.mark.parametrize("name", ["enrichment_logs", "llama_logs"])
def test_another_run_on_the_table_is_waited_for_and_not_disturbed(
    name: str, sample_newest: Database
) -> None:
    migrate(sample_newest)
    with sample_newest.connect(application_name="another") as other, other.transaction():
        other.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"runbook/public.{name}"]
        )
        with unchanged(sample_newest), pytest.raises(RunInProgress, match="another"):
            roll_back(sample_newest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("CREATE VIEW early AS SELECT category FROM llama_logs", "view public.early"),
        ("ALTER TABLE llama_logs RENAME TO logs", "is public.logs now"),
        (
            "ALTER TABLE llama_logs RENAME TO logs; CREATE TABLE llama_logs (LIKE logs)",
            "another one, with OID",
        ),
        ("CREATE TABLE child () INHERITS (llama_logs)", "inherit"),
    ],
)
def test_what_comes_between_looking_and_locking_is_seen(
    change: str, said: str, sample_newest: Database
) -> None:
    migrate(sample_newest)
    with pytest.raises(BlockedError, match=f"come between.*{said}"):
        roll_back(sample_newest, between=lambda: sample_newest.execute(change))
    assert sample_newest.value("SELECT count(*) FROM runbook.rollback") == 0


def test_two_rollbacks_of_the_same_run(sample_newest: Database) -> None:
    """The second has looked before the first was done."""
    before = logical_state(sample_newest)
    migrate(sample_newest)
    with pytest.raises(BlockedError, match="come between"):
        roll_back(sample_newest, between=lambda: roll_back(sample_newest))
    assert logical_state(sample_newest) == before
    assert sample_newest.value("SELECT count(*) FROM runbook.rollback") == 1


# -- labels -------------------------------------------------------------------------------------

BY_HAND = "UPDATE llama_logs SET category = 'FAILED' WHERE category = 'CORRECTED'"


@pytest.mark.parametrize("way", [migrate, migrate_online])
def test_labels_that_were_set_by_hand_are_counted_by_what_the_rules_look_at(
    way: Any, sample: Database
) -> None:
    way(sample)
    assert hand_set_of(sample).rows == 0
    sample.execute(BY_HAND)
    found = hand_set_of(sample)
    assert found.names == ["operation", "status", "category", "by the rules", "rows"]
    assert (found.rows, {line[0] for line in found.largest}) == (15, {"admin_correction"})
    assert {line[2:4] for line in found.largest} == {("FAILED", "CORRECTED")}
    assert sum(int(str(line[-1])) for line in found.largest) == 15


def test_at_most_fifty_groups_are_listed(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "UPDATE llama_logs SET category = 'FAILED', operation = 'hand ' || n FROM (SELECT id AS i,"
        " row_number() OVER () % 60 AS n FROM llama_logs LIMIT 120) AS s WHERE id = i"
    )
    found = hand_set_of(sample_newest)
    assert len(found.largest) == 50 < found.groups < found.rows <= 120


def test_labels_set_by_hand_after_the_counting_are_seen_under_the_lock(sample: Database) -> None:
    migrate(sample)
    by_hand = lambda: sample.execute(BY_HAND)  # noqa: E731
    with pytest.raises(BlockedError, match="15 rows have a label"):
        roll_back(sample, between=by_hand)
    assert sample.value("SELECT to_regclass('llama_logs') IS NOT NULL")
    undone = roll_back(sample, discard=True).undone
    assert (undone.discarded, undone.counted_under_lock) == (15, True)
    assert sample.value("SELECT discarded FROM runbook.rollback") == 15


def test_a_count_that_would_exceed_the_budget_is_not_made_under_the_lock(
    sample_newest: Database,
) -> None:
    migrate(sample_newest)
    back = roll_back(
        sample_newest, lock_budget_ms=1, between=lambda: sample_newest.execute(BY_HAND)
    )
    assert not back.undone.counted_under_lock


# -- rows ---------------------------------------------------------------------------------------

WRITE = "UPDATE {} SET reason = 'written' WHERE operation = 'admin_correction'"


def test_rows_that_were_written_since_the_migration(sample: Database) -> None:
    migrate(sample)
    sample.execute(WRITE.format("llama_logs"))
    rows = roll_back(sample).rows
    assert rows.passed and rows.content["fingerprint_recorded"] != rows.content["fingerprint_after"]
    assert rows.verdict == "rows were written since the migration; the rollback altered none"


@pytest.mark.parametrize("where", ["between", "after"])
def test_rows_that_are_written_while_it_is_taken_back(where: str, sample: Database) -> None:
    migrate(sample)
    table = "llama_logs" if where == "between" else "enrichment_logs"
    moment: dict[str, Any] = {where: lambda: sample.execute(WRITE.format(table))}
    rows = roll_back(sample, **moment).rows
    assert rows.passed is None and "could not be shown" in rows.verdict


def test_rows_that_differ_and_nobody_wrote(
    sample_newest: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's session does not count."""
    monkeypatch.setattr(proof, "SETTLING_S", 0.5)
    migrate(sample_newest)
    rows = roll_back(
        sample_newest,
        between=lambda: sample_newest.execute(
            f"SET track_counts = off; {WRITE.format('llama_logs')}"
        ),
    ).rows
    assert rows.passed is False and "nobody else was seen to write" in rows.verdict


def test_a_writer_that_goes_on_meanwhile(newest: Cluster) -> None:
    """Each write of it is there afterwards, under whichever name it was made."""
    database = newest.sample()
    with_view(database, "online")
    stop, written = threading.Event(), [0]

    def write() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                connection.execute(
                    "INSERT INTO enrichment_logs (operation, status) VALUES ('w', 'PENDING')"
                )
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back = roll_back(database)
    finally:
        stop.set()
        writer.join()
    assert back.rows.passed is None and back.catalog.wrong == ()
    found = database.value("SELECT count(*) FROM enrichment_logs WHERE operation = 'w'")
    assert found == written[0] > 0
    newest.drop(database)
