"""The proof of the whole table online: where nobody else writes, and never claimed otherwise."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from runbook.errors import Stopped
from runbook.plan import build_plan
from runbook.run.online import AppliedOnline, Journal, whole
from runbook.spec import load_spec
from runbook.vocabulary import Phase, Role
from tests.conftest import Database
from tests.migrating import ONLINE, catalog_of, migrate_online, stop_online, take_back
from tests.state import logical_state

SPEC = load_spec("llamalog")

ONE_ROW = (
    "UPDATE enrichment_logs SET retry_count = retry_count + 1"
    " WHERE id = (SELECT min(id::text)::uuid FROM enrichment_logs)"
)


@pytest.fixture(autouse=True)
def _settle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "SETTLING_S", 0.5)


def at_index(strike: Callable[[], None]) -> Callable[[str, str, float], None]:
    """Return a listener that strikes once when the index phase begins."""

    def tell(phase: str, text: str, share: float) -> None:
        if (phase, text) == ("index", "begins"):
            strike()

    return tell


@pytest.mark.parametrize("proof", ["hash", "sha256"])
def test_a_table_that_nobody_writes_to_is_proved_whole(proof: str, sample: Database) -> None:
    options = replace(ONLINE, proof=proof)  # type: ignore[arg-type]
    plan = build_plan(SPEC, catalog_of(sample), options)
    applied = migrate_online(sample, plan=plan)
    assert (applied.proof.covers, applied.proof.passed) == ("table", True)
    assert (applied.proof.rows_before, applied.proof.rows_after) == (4052, 4052)
    assert applied.proof.says.startswith("Nobody else wrote to it meanwhile.")
    assert ("SHA-256" in applied.proof.algorithm) == (proof == "sha256")
    assert applied.proof.batches and applied.proof.batches["rows"] == applied.updated == 282
    recorded = sample.value("SELECT jsonb_build_array(algorithm, fingerprint) FROM runbook.ledger")
    assert recorded == [applied.proof.algorithm, applied.proof.fingerprint_after]


@pytest.mark.parametrize("is_written", [False, True])
def test_the_rows_are_swept_only_where_others_wrote(
    is_written: bool, sample_newest: Database
) -> None:
    """Else the second count, which is taken while the index is built, says what a sweep would."""
    journal = Journal()

    def tell(phase: str, text: str, share: float) -> None:
        if is_written and (phase, text) == ("cutover", "begins"):
            sample_newest.execute(ONE_ROW)

    migrate_online(sample_newest, journal=journal, tell=tell)
    roles = [one.role for one in journal.executed]
    assert roles.count(Role.TALLY_AFTER) == 1
    assert (Role.SWEEP in roles) == is_written


def test_where_others_wrote_it_is_not_claimed(sample: Database) -> None:
    applied = migrate_online(sample, tell=at_index(lambda: sample.execute(ONE_ROW)))
    assert_by_batches(applied, "1 more rows were written meanwhile")


def test_where_others_write_when_it_begins_it_is_not_counted(sample_newest: Database) -> None:
    catalog = catalog_of(sample_newest)
    sample_newest.execute(ONE_ROW)
    journal = Journal()
    assert_by_batches(
        migrate_online(sample_newest, catalog=catalog, journal=journal), whole.AT_WORK
    )
    assert "tally-before" not in {one.role for one in journal.executed}


def test_the_count_ends_as_soon_as_others_are_seen_to_write(sample_newest: Database) -> None:
    plan = build_plan(SPEC, catalog_of(sample_newest), ONLINE)
    slowly = tuple(
        replace(one, sql=f"SELECT NULL, 0, 0, 0 FROM pg_sleep(600) -- {one.sql!r}")
        if (one.phase, one.role) == (Phase.BACKFILL, Role.TALLY_BEFORE)
        else one
        for one in plan.statements
    )

    def tell(phase: str, text: str, share: float) -> None:
        if text.startswith("the whole table is counted"):
            sample_newest.execute(ONE_ROW)

    plan = replace(plan, statements=slowly)
    assert_by_batches(migrate_online(sample_newest, plan=plan, tell=tell), whole.AT_WORK)


def assert_by_batches(applied: AppliedOnline, why: str) -> None:
    """Hold that only the rows that were updated are said to be proved, and why."""
    proof = applied.proof
    assert (proof.passed, proof.covers, proof.rows_after) == (True, "updated rows", 282)
    assert f"The whole table could not be compared: {why}" in proof.says


def test_an_alteration_that_nobody_is_seen_to_have_made_stops_the_run(sample: Database) -> None:
    """Made by a session that hides what it writes from the counters."""
    before = logical_state(sample)

    def alter(change: str) -> None:
        with sample.connect() as connection:
            connection.execute("SET track_counts = off")
            connection.execute(change.encode())

    with pytest.raises(Stopped, match="proof over the whole table failed: 4,052 rows before and"):
        migrate_online(sample, tell=at_index(lambda: alter(ONE_ROW)))
    assert sample.value("SELECT count(*) FROM pg_tables WHERE tablename = 'llama_logs'") == 0
    with pytest.raises(Stopped, match="nobody else is seen to have written"):
        migrate_online(sample)
    take_back(sample)
    alter(ONE_ROW.replace("+ 1", "- 1"))
    assert logical_state(sample) == before
    assert migrate_online(sample).proof.covers == "table"


def test_the_ranges_that_were_altered_are_named(sample_newest: Database) -> None:
    plan = build_plan(SPEC, catalog_of(sample_newest), replace(ONLINE, proof="sha256"))

    def alter() -> None:
        with sample_newest.connect() as connection:
            connection.execute("SET track_counts = off")
            connection.execute("DELETE FROM enrichment_logs WHERE operation = 'cache:artist-image'")
            connection.execute(ONE_ROW.encode())

    with pytest.raises(Stopped, match=r"Rows by id from .* \(4,052 rows before, 4,05\d after\)"):
        migrate_online(sample_newest, plan=plan, tell=at_index(alter))


def test_counts_that_come_late_are_waited_for(
    sample_newest: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session tells its counts when it ends, at the latest."""
    monkeypatch.setattr(whole, "SETTLING_S", 60.0)
    writer = sample_newest.connect()
    writer.execute("UPDATE artists SET id = id WHERE false")

    def tell(phase: str, text: str, share: float) -> None:
        if (phase, text) == ("index", "begins"):
            # Twice within a second: the second is kept back.
            writer.execute("UPDATE artists SET id = id")
            writer.execute(ONE_ROW.encode())
        if text.startswith("the table differs: waiting"):
            writer.close()

    assert_by_batches(migrate_online(sample_newest, tell=tell), "1 more rows were written")


def test_a_server_that_does_not_count_proves_by_batches(sample_newest: Database) -> None:
    sample_newest.execute(f"ALTER DATABASE {sample_newest.name} SET track_counts = off")
    assert_by_batches(migrate_online(sample_newest), "the server does not count writes")


def test_counts_that_were_reset_prove_by_batches(sample_newest: Database) -> None:
    def reset() -> None:
        sample_newest.execute("SELECT pg_stat_reset()", ONE_ROW.replace("+ 1", "+ 2"))

    applied = migrate_online(sample_newest, tell=at_index(reset))
    assert_by_batches(applied, "the server's counts of writes do not reach back")


@pytest.mark.parametrize("phase", ["index", "cutover"])
def test_a_resumed_run_compares_with_before_its_first_batch(
    phase: str, sample_newest: Database
) -> None:
    stop_online(sample_newest, phase)
    assert migrate_online(sample_newest).proof.covers == "table"


def test_what_was_not_counted_before_the_first_batch_is_not_claimed(
    sample_newest: Database,
) -> None:
    stop_online(sample_newest, "index")
    sample_newest.execute("UPDATE runbook.online_run SET whole = NULL")
    assert_by_batches(migrate_online(sample_newest), whole.RESUMED)


TOUCHING = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " UPDATE enrichment_logs SET retry_count = retry_count + 1"
    " WHERE id = (SELECT min(id::text)::uuid FROM enrichment_logs)"
    " AND pg_trigger_depth() = 1; RETURN NULL; END $$",
)


@pytest.mark.parametrize("kind", ["TRIGGER", "CONSTRAINT TRIGGER"])
def test_a_trigger_that_writes_to_other_rows_stops_the_batch(kind: str, sample: Database) -> None:
    """At once, or deferred to the commit: the batch compares its own rows, and those are others."""
    deferred = "DEFERRABLE INITIALLY DEFERRED" if kind == "CONSTRAINT TRIGGER" else ""
    sample.execute(
        *TOUCHING,
        f"CREATE {kind} touching AFTER UPDATE ON enrichment_logs {deferred}"
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    before = sample.value("SELECT sum(retry_count) FROM enrichment_logs")
    with pytest.raises(Stopped, match="had others of the same table written"):
        migrate_online(sample)
    assert sample.value("SELECT sum(retry_count) FROM enrichment_logs") == before
    sample.execute("ALTER TABLE enrichment_logs DISABLE TRIGGER touching")
    take_back(sample)


def test_an_interrupt_while_it_is_counted_leaves_a_run_to_resume(sample_newest: Database) -> None:
    def tell(phase: str, text: str, share: float) -> None:
        if phase == "backfill" and "blocks" in text:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        migrate_online(sample_newest, tell=tell)
    assert migrate_online(sample_newest).proof.passed
