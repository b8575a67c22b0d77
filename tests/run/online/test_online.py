"""The online run: the end state of the atomic one, with short locks, while others work."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.catalog import read_catalog
from runbook.errors import RefusedError, RolledBack, RunInProgress, Stopped
from runbook.plan import Plan, build_plan, review
from runbook.plan.script import script
from runbook.run.online import Journal, Limits
from runbook.run.online.short import Short, Transaction
from runbook.spec import load_spec
from runbook.vocabulary import Phase
from tests.cases import CASES
from tests.conftest import Cluster, Database
from tests.embedded.other_processes import wait_for
from tests.migrating import ONLINE, catalog_of, check, migrate_online, take_back
from tests.operations.test_specs import EXTENDED, spec_of
from tests.own_server import own_database, replica
from tests.plan.test_plan import psql
from tests.run.test_atomic import CATEGORIES
from tests.state import logical_state


def test_it_proves_what_it_updated_and_locks_the_table_twice(sample: Database) -> None:
    journal = Journal()
    applied = migrate_online(sample, journal=journal)
    assert applied.rows == 4052
    assert applied.proof.passed and applied.updated == 282
    assert [(one.phase, one.got) for one in journal.lock_tries] == [
        ("expand", True),
        ("cutover", True),
    ]
    assert [one["phase"] for one in journal.phases] == [
        "prepare", "expand", "backfill", "index", "cutover",
    ]  # fmt: skip
    assert sum(one.blocks for one in journal.samples) == sample.value(
        "SELECT sum(end_block) FROM runbook.online_span"
    )
    assert sample.value("SELECT mode FROM runbook.ledger") == "online"


def test_several_jobs_share_the_blocks(sample: Database) -> None:
    assert migrate_online(sample, limits=Limits(jobs=3)).updated == 282
    assert counted(sample) == CATEGORIES
    assert sample.value("SELECT count(*) FROM runbook.online_span") == 3


def counted(database: Database) -> Any:
    return database.value(
        "SELECT jsonb_object_agg(category, n) FROM"
        " (SELECT category, count(*) AS n FROM llama_logs GROUP BY 1) AS c"
    )


# -- others at work ----------------------------------------------------------------------------


@contextmanager
def at(phase: str, text: str, act: Any) -> Iterator[Any]:
    """Yield a `tell` that acts when the run says so, once."""
    done: list[bool] = []

    def tell(now: str, said: str, share: float) -> None:
        if not done and now == phase and text in said:
            done.append(True)
            act()

    yield tell
    assert done, f"{phase}: {text} was never told"


def test_rows_written_meanwhile_are_classified(sample: Database) -> None:
    """Between the trigger and the cutover: inserted, updated in what the rules look at, both."""

    def write() -> None:
        sample.execute(
            "INSERT INTO enrichment_logs (operation, status) VALUES ('cache:new', 'SUCCESS'),"
            " ('elsewhere', 'FAILED')",
            "UPDATE enrichment_logs SET operation = 'admin_correction'"
            " WHERE operation = 'manual_correction'",
            "DELETE FROM enrichment_logs WHERE operation = 'SPOTIFY_TRACK_FALLBACK'",
        )
        # At once, by the triggers: what is wrong the sweep would set right later.
        labels = sample.value(
            "SELECT jsonb_object_agg(operation, category) FROM enrichment_logs"
            " WHERE operation IN ('cache:new', 'elsewhere', 'admin_correction')"
            " AND (operation <> 'admin_correction' OR xmin = ("
            "     SELECT max(xmin::text::bigint)::text::xid FROM enrichment_logs"
            "     WHERE operation = 'admin_correction'))"
        )
        assert labels == {
            "cache:new": "CACHED",
            "elsewhere": "FAILED",
            "admin_correction": "CORRECTED",
        }

    corrected, deleted = (
        sample.value(f"SELECT count(*) FROM enrichment_logs WHERE operation = '{operation}'")
        for operation in ("manual_correction", "SPOTIFY_TRACK_FALLBACK")
    )
    with at("backfill", "begins", write) as tell:
        applied = migrate_online(sample, tell=tell)
    assert applied.proof.passed
    assert counted(sample) == {
        "ENRICHED": 3770,
        "CREATED": 266 - corrected - deleted,
        "CORRECTED": 15 + corrected,
        "CACHED": 2,
        "FAILED": 1,
    }
    assert [one.id for one in check(sample).values() if not one.passed] == []


def test_replicated_rows_are_classified_too(sample_newest: Database) -> None:
    """What a subscription applies, or a bulk load that says it were one, fires no plain trigger."""

    def write() -> None:
        with sample_newest.connect() as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "INSERT INTO enrichment_logs (operation, status) VALUES ('cache:new', 'SUCCESS')"
            )
        label = "SELECT category::text FROM enrichment_logs WHERE operation = 'cache:new'"
        assert sample_newest.value(label) == "CACHED"

    with at("backfill", "begins", write) as tell:
        migrate_online(sample_newest, tell=tell)
    assert counted(sample_newest)["CACHED"] == 2


def hold_a_row(holder: psycopg.Connection[Any]) -> None:
    holder.execute("BEGIN")
    holder.execute("SELECT FROM enrichment_logs WHERE operation LIKE 'cache:%' FOR UPDATE")


def test_a_row_that_is_locked_is_left_out_and_done_later(sample: Database) -> None:
    """Nobody waits for a lock on a row: neither the run, nor the application for the run."""
    with sample.connect() as holder:
        told: list[str] = []

        def tell(phase: str, text: str, share: float) -> None:
            told.append(text)
            if phase == "backfill" and text == "begins":
                hold_a_row(holder)
            if "1 rows were left out" in text:
                holder.execute("ROLLBACK")

        applied = migrate_online(sample, tell=tell)
    assert any("1 rows were left out" in text for text in told)
    assert applied.updated == 282
    assert counted(sample) == CATEGORIES


def test_a_row_that_stays_locked_stops_the_run(sample_newest: Database) -> None:
    with (
        sample_newest.connect(application_name="forgotten") as holder,
        at("backfill", "begins", lambda: hold_a_row(holder)) as tell,
        pytest.raises(
            Stopped,
            match=r"1 rows could not be classified.* in public\.enrichment_logs:.*forgotten",
        ),
    ):
        migrate_online(sample_newest, limits=Limits(max_wait_ms=300), tell=tell)
    assert migrate_online(sample_newest).updated == 282


@pytest.mark.parametrize("phase", ["expand", "cutover"])
def test_a_table_in_use_is_waited_for_without_a_queue_behind(phase: str, sample: Database) -> None:
    """The application goes on between the tries; whoever is in the way is named."""
    reader = sample.connect(application_name="nightly report")

    def read() -> None:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM enrichment_logs LIMIT 1")

    journal, limits = Journal(), Limits(max_wait_ms=1_500)
    error = RefusedError if phase == "expand" else Stopped
    with reader, at(phase, "begins", read) as tell:
        with pytest.raises(error, match=r"nightly report.*AccessShareLock"):
            migrate_online(sample, journal=journal, limits=limits, tell=tell)
        failed = [one for one in journal.lock_tries if not one.got]
        assert len(failed) > 2 and all(one.phase == phase and one.held_ms == 0 for one in failed)
        assert {one.application for t in failed for one in t.blockers} == {"nightly report"}
        assert sample.value("SELECT count(*) FROM enrichment_logs") == 4052
        reader.execute("ROLLBACK")
    assert migrate_online(sample).proof.passed
    assert counted(sample) == CATEGORIES


def test_a_try_goes_through_once_the_table_is_free(sample_newest: Database) -> None:
    reader = sample_newest.connect()
    reader.execute("BEGIN")
    reader.execute("SELECT FROM enrichment_logs LIMIT 1")
    journal = Journal()
    with reader, at("expand", "try 2", lambda: reader.execute("ROLLBACK")) as tell:
        migrate_online(sample_newest, journal=journal, tell=tell)
    assert [one.got for one in journal.lock_tries if one.phase == "expand"] == [False, False, True]


@pytest.mark.parametrize("phase", ["expand", "index", "cutover"])
def test_a_vacuum_that_nobody_may_cancel_is_waited_for(phase: str, sample_newest: Database) -> None:
    """Such as one against wraparound: it holds SHARE UPDATE EXCLUSIVE for hours."""
    vacuum = sample_newest.connect(application_name="vacuum")

    def begin() -> None:
        vacuum.execute("BEGIN")
        vacuum.execute("LOCK TABLE enrichment_logs IN SHARE UPDATE EXCLUSIVE MODE")

    error = RefusedError if phase == "expand" else Stopped
    limits = Limits(max_wait_ms=700)
    with vacuum, at(phase, "begins", begin) as tell:
        with pytest.raises(error, match="'vacuum'"):
            migrate_online(sample_newest, limits=limits, tell=tell)
        sample_newest.execute("UPDATE enrichment_logs SET retry_count = retry_count")
        vacuum.execute("ROLLBACK")
    assert migrate_online(sample_newest).proof.passed


def test_the_index_waits_for_older_transactions_and_gives_up(sample: Database) -> None:
    """It says for whom; the invalid index that stays is removed by the next run."""
    with sample.connect(application_name="long report") as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")

        def read() -> None:
            reader.execute('SELECT FROM "User" LIMIT 1')

        with at("backfill", "begins", read) as tell, pytest.raises(Stopped, match="long report"):
            migrate_online(sample, limits=Limits(max_wait_ms=500), tell=tell)
        assert not sample.value(
            "SELECT indisvalid FROM pg_index WHERE indexrelid ="
            " '\"llama_logs_category_createdAt_idx\"'::regclass"
        )
    assert migrate_online(sample).proof.passed
    assert [one.id for one in check(sample).values() if not one.passed] == []


def test_an_index_that_somebody_else_made_is_not_taken_for_ours(sample_newest: Database) -> None:
    def make() -> None:
        sample_newest.execute(
            'CREATE INDEX "llama_logs_category_createdAt_idx" ON enrichment_logs (category)'
        )

    with at("index", "begins", make) as tell, pytest.raises(Stopped, match="something else has"):
        migrate_online(sample_newest, tell=tell)
    sample_newest.execute('DROP INDEX "llama_logs_category_createdAt_idx"')
    assert migrate_online(sample_newest).proof.passed


@pytest.mark.parametrize(
    "rewrite", ["VACUUM FULL enrichment_logs", "CLUSTER enrichment_logs USING enrichment_logs_pkey"]
)
def test_a_table_that_is_rewritten_meanwhile_is_begun_again(
    rewrite: str, sample_newest: Database
) -> None:
    """Block numbers mean nothing in another file."""
    sample_newest.execute("DELETE FROM enrichment_logs WHERE operation = 'discogs:get-artist'")
    moved: list[bool] = []

    def tell(phase: str, text: str, share: float) -> None:
        if phase == "backfill" and "begins" in text:
            sample_newest.execute(rewrite)
        moved.append("was rewritten meanwhile" in text)

    applied = migrate_online(sample_newest, tell=tell)
    assert any(moved) and applied.updated == 282
    assert counted(sample_newest) == CATEGORIES | {"ENRICHED": applied.rows - 282}


def test_two_runs_exclude_each_other(sample_newest: Database) -> None:
    refused: list[BaseException] = []

    def second() -> None:
        for way in (migrate_online, take_back):
            with pytest.raises(RunInProgress, match="pid ") as caught:
                way(sample_newest)
            refused.append(caught.value)

    with at("index", "begins", second) as tell:
        assert migrate_online(sample_newest, tell=tell).proof.passed
    assert len(refused) == 2


# -- what goes wrong ----------------------------------------------------------------------------


def test_a_trigger_that_alters_data_stops_the_run_before_its_batch_is_committed(
    sample: Database,
) -> None:
    sample.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.retry_count := NEW.retry_count + 1; RETURN NEW; END $$",
        "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    before = sample.value("SELECT sum(retry_count) FROM enrichment_logs")
    with pytest.raises(Stopped, match="had a value of another column altered"):
        migrate_online(sample)
    assert sample.value("SELECT sum(retry_count) FROM enrichment_logs") == before
    sample.execute("ALTER TABLE enrichment_logs DISABLE TRIGGER touch")
    with pytest.raises(Stopped, match="touch"):
        migrate_online(sample)  # it is not the table that the plan was made for


def test_a_table_changed_meanwhile_is_not_cut_over(sample_newest: Database) -> None:
    def change() -> None:
        sample_newest.execute("CREATE INDEX enrichment_logs_late_idx ON enrichment_logs (job_id)")

    with at("index", "begins", change) as tell, pytest.raises(Stopped, match=r"late_idx is new"):
        migrate_online(sample_newest, tell=tell)
    sample_newest.execute("DROP INDEX enrichment_logs_late_idx")
    assert migrate_online(sample_newest).proof.passed


def test_a_failure_of_the_first_transaction_leaves_nothing(sample_newest: Database) -> None:
    before = logical_state(sample_newest)
    catalog = catalog_of(sample_newest)
    plan = broken(build_plan(load_spec("llamalog"), catalog, ONLINE), "CREATE TRIGGER")
    with pytest.raises(RolledBack):
        migrate_online(sample_newest, catalog=catalog, plan=plan)
    assert logical_state(sample_newest) == before
    assert sample_newest.value("SELECT to_regnamespace('runbook') IS NULL")


def test_a_label_that_was_added_before_a_refusal_is_told_of(sample_newest: Database) -> None:
    """It is committed by itself, and no PostgreSQL can take it away again."""
    sample_newest.execute(*CASES["extended type"].made)
    with sample_newest.connect() as reader, reader.transaction():
        reader.execute("SELECT FROM tickets LIMIT 1")
        with pytest.raises(RolledBack, match="could not be locked") as caught:
            migrate_online(sample_newest, spec_of(EXTENDED), limits=Limits(max_wait_ms=200))
    assert "Nothing else was changed" in caught.value.remedy
    assert "staying: Add label urgent to severity" in caught.value.remedy


def broken(plan: Plan, at_: str) -> Plan:
    """Return the plan with one statement that fails."""
    from dataclasses import replace

    return replace(
        plan,
        statements=tuple(
            replace(one, sql="SELECT 1 / 0") if one.sql.startswith(at_) else one
            for one in plan.statements
        ),
    )


@pytest.fixture
def clerk(sample: Database) -> Iterator[Any]:
    """Yield what connects as a role that owns the table and has no other rights."""
    role = f"clerk_{sample.name}"
    sample.execute(
        f"CREATE ROLE {role} LOGIN",
        f"ALTER TABLE enrichment_logs OWNER TO {role}",
        f"GRANT CREATE ON SCHEMA public TO {role}",
        f"GRANT CREATE ON DATABASE {sample.name} TO {role}",
    )
    yield lambda: psycopg.connect(sample.conninfo, user=role, autocommit=True)
    sample.execute(f"REASSIGN OWNED BY {role} TO postgres", f"DROP OWNED BY {role}")
    sample.execute(f"DROP ROLE {role}")


def test_the_owner_of_the_table_is_enough(sample: Database, clerk: Any) -> None:
    """But what it does not see, it cannot heed: the review says so."""
    with clerk() as connection:
        catalog = read_catalog(connection, load_spec("llamalog"))
    findings = {one.code: one.level for one in review(load_spec("llamalog"), catalog, ONLINE)}
    assert findings["sessions-hidden"] == "warning" and "blocker" not in findings.values()
    with at("backfill", "begins", lambda: None) as tell:
        assert migrate_online(sample, catalog=catalog, connect=clerk, tell=tell).proof.passed
    assert counted(sample) == CATEGORIES


# -- pace ---------------------------------------------------------------------------------------


def test_a_catalog_that_is_slow_to_read_is_no_lock_that_was_not_to_be_had(
    sample_newest: Database,
) -> None:
    """The try for the lock is limited as a whole; what is read before and after it is not."""
    catalog = catalog_of(sample_newest)
    assert catalog.table is not None
    plan = build_plan(load_spec("llamalog"), catalog, ONLINE)
    looked = []

    def judge(connection: psycopg.Connection[Any]) -> None:
        slowly = f"SELECT pg_sleep({2 * ONLINE.lock_timeout_ms / 1000}), count(*) FROM pg_locks"
        slowly += " WHERE relation = 'public.enrichment_logs'::regclass"
        slowly += " AND mode = 'AccessExclusiveLock'"
        looked.append(connection.execute(slowly.encode()).fetchall()[0][1])

    Short(
        connect=sample_newest.connect,
        table=catalog.table,
        journal=Journal(),
        max_wait_s=0,
        tell=lambda phase, text, share: None,
    ).run(Transaction(phase=Phase.EXPAND, statements=plan.of_phase(Phase.EXPAND), judge=judge))
    assert looked == [0, 1]


def test_it_pauses_while_too_many_sessions_are_active(sample_newest: Database) -> None:
    """As many as are at work stay so until the run has said that it pauses."""
    journal = Journal()
    workers = [sample_newest.connect() for _ in range(3)]
    threads = [threading.Thread(target=_work_until_cancelled, args=[one]) for one in workers]

    def tell(phase: str, text: str, share: float) -> None:
        if "pausing: application: " in text:
            for worker in workers:
                worker.cancel_safe()

    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: sample_newest.value(_ACTIVE) == len(workers))
        applied = migrate_online(
            sample_newest, journal=journal, tell=tell, limits=Limits(max_active=1)
        )
    finally:
        for worker, thread in zip(workers, threads, strict=True):
            worker.cancel_safe()
            thread.join()
            worker.close()
    assert applied.proof.passed and journal.pauses["application"] > 0


_ACTIVE = """\
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query = 'SELECT pg_sleep(600)' AND state = 'active'"""


def _work_until_cancelled(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(600)")


def test_it_pauses_while_wal_waits_for_its_archive() -> None:
    """And goes on as soon as that is mended."""
    with own_database(archive_mode="on", archive_command="false") as database:
        for _ in range(4):
            database.execute("SELECT pg_logical_emit_message(false, 'test', 'x')")
            database.execute("SELECT pg_switch_wal()")
        wait_for(lambda: database.value("SELECT failed_count > 0 FROM pg_stat_archiver"))
        journal = Journal()

        def mend() -> None:
            database.execute("ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")

        with at("backfill", "pausing: archive: ", mend) as tell:
            applied = migrate_online(
                database, journal=journal, tell=tell, limits=Limits(max_unarchived=2)
            )
        assert applied.proof.passed and journal.pauses["archive"] > 0


def test_it_pauses_while_a_replica_is_late() -> None:
    """It replays nothing until the run has said that it waits for it."""
    with own_database() as database, replica(database) as late:
        late.execute("SELECT pg_wal_replay_pause()")
        # Many batches, so that it looks at the replica more than once.
        limits, journal = Limits(max_lag_ms=50, batch_ms=1), Journal()

        def resume() -> None:
            late.execute("SELECT pg_wal_replay_resume()")

        with at("backfill", "pausing: replica ", resume) as tell:
            applied = migrate_online(database, journal=journal, tell=tell, limits=limits)
        assert applied.proof.passed and journal.pauses["replica"] > 0


# -- taking back --------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["backfill", "index", "cutover"])
def test_a_stopped_run_that_is_taken_back_says_where_it_had_stopped(
    phase: str, empty_newest: Database
) -> None:
    case = CASES["existing type"]
    empty_newest.execute(*case.made)
    before = logical_state(empty_newest)

    def stop() -> None:
        raise KeyboardInterrupt

    with at(phase, "begins", stop) as tell, pytest.raises(Stopped, match="interrupted"):
        migrate_online(empty_newest, case.spec, tell=tell)
    assert logical_state(empty_newest) != before
    assert take_back(empty_newest, case.spec).phase == phase
    assert logical_state(empty_newest) == before
    assert catalog_of(empty_newest, case.spec).unfinished is None


def test_it_is_not_taken_back_while_something_depends_on_it(sample_newest: Database) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with at("index", "begins", stop) as tell, pytest.raises(Stopped):
        migrate_online(sample_newest, tell=tell)
    sample_newest.execute("CREATE VIEW early AS SELECT category FROM enrichment_logs")
    before = logical_state(sample_newest)
    with pytest.raises(RolledBack, match="early"):
        take_back(sample_newest)
    assert logical_state(sample_newest) == before
    sample_newest.execute("DROP VIEW early")
    assert take_back(sample_newest).rows == 282


# -- the script ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llamalog", "without rename", "only rename"])
def test_psql_runs_the_script_to_the_same_end(name: str, cluster: Cluster, tmp_path: Path) -> None:
    spec = CASES[name].spec
    states = []
    for by_psql in (False, True):
        database = CASES[name].make(cluster)
        if by_psql:
            catalog = catalog_of(database, spec)
            assert catalog.table is not None
            psql(database, script(spec, build_plan(spec, catalog, ONLINE), catalog.table), tmp_path)
            assert [one.id for one in check(database, spec).values() if not one.passed] == []
        else:
            migrate_online(database, spec)
        states.append(logical_state(database))
        cluster.drop(database)
    assert states[0] == states[1]


def test_the_script_ends_at_a_batch_whose_proof_fails(sample: Database, tmp_path: Path) -> None:
    sample.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.retry_count := NEW.retry_count + 1; RETURN NEW; END $$",
        "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    counted_before = sample.value("SELECT sum(retry_count) FROM enrichment_logs")
    spec, catalog = load_spec("llamalog"), catalog_of(sample)
    assert catalog.table is not None
    text = script(spec, build_plan(spec, catalog, ONLINE), catalog.table)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        psql(sample, text, tmp_path)
    assert "282 of 282 rows had a value of another column altered" in caught.value.stderr
    assert sample.value("SELECT sum(retry_count) FROM enrichment_logs") == counted_before
    assert sample.value("SELECT count(DISTINCT category) FROM enrichment_logs") == 1
    assert sample.value("SELECT to_regclass('runbook.ledger') IS NULL")
