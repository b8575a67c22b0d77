"""The atomic run: all of it or nothing, whatever fails and whenever."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from runbook.errors import RefusedError, RolledBack, RunInProgress
from tests.conftest import Database
from tests.migrating import catalog_of, migrate, plan_of
from tests.state import database_state

CATEGORIES = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1}


@contextmanager
def unchanged(database: Database) -> Iterator[None]:
    """Hold that the database is, object by object and row by row, as it was."""
    with database.connect() as connection:
        before = database_state(connection)
        yield
        assert database_state(connection) == before


def test_every_row_is_kept_and_classified(sample: Database) -> None:
    oid = sample.value("SELECT 'enrichment_logs'::regclass::oid")
    applied = migrate(sample)
    assert applied.proof.passed
    assert (applied.before.rows, applied.after.rows) == (4052, 4052)
    assert applied.after.categories == CATEGORIES
    assert sample.value("SELECT 'llama_logs'::regclass::oid") == oid
    counted = sample.value(
        "SELECT jsonb_object_agg(category, n) FROM"
        " (SELECT category, count(*) AS n FROM llama_logs GROUP BY 1) AS c"
    )
    assert counted == CATEGORIES


def test_every_name_follows_the_table(sample: Database) -> None:
    migrate(sample)
    left = sample.value(
        "SELECT count(*) FROM (SELECT relname AS name FROM pg_class"
        " UNION ALL SELECT conname FROM pg_constraint) AS names"
        " WHERE name LIKE 'enrichment\\_logs%'"
    )
    assert left == 0


def test_the_run_is_recorded_in_the_same_transaction(sample: Database) -> None:
    applied = migrate(sample)
    with sample.connect() as connection:
        entry, table = (
            connection.execute(
                "SELECT run_id::text, rows, categories, xmin::text FROM runbook.ledger"
            ).fetchone(),
            connection.execute(
                "SELECT xmin::text FROM pg_class WHERE relname = 'llama_logs'"
            ).fetchone(),
        )
    assert entry is not None and table is not None
    assert entry[:3] == (applied.run_id, 4052, CATEGORIES)
    assert entry[3] == table[0]


def test_an_interrupt_rolls_back(sample_newest: Database) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("Classify"):
            raise KeyboardInterrupt

    with unchanged(sample_newest), pytest.raises(RolledBack, match="interrupted"):
        migrate(sample_newest, progress=interrupt)


class _LosingCommit(psycopg.Connection[Any]):
    """A connection whose server goes away right after (or before) it has committed."""

    commits = True

    def commit(self) -> None:
        if self.commits:
            super().commit()
        self.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


class _LosingBeforeCommit(_LosingCommit):
    commits = False


def test_a_commit_whose_answer_is_lost_is_found_in_the_ledger(sample_newest: Database) -> None:
    connections = iter(
        [_LosingCommit.connect(sample_newest.conninfo, autocommit=True), sample_newest.connect()]
    )
    assert migrate(sample_newest, connect=lambda: next(connections)).proof.passed
    assert sample_newest.value("SELECT count(*) FROM runbook.ledger") == 1


def test_a_commit_that_never_arrived_is_told_from_one_that_did(sample_newest: Database) -> None:
    connections = iter(
        [
            _LosingBeforeCommit.connect(sample_newest.conninfo, autocommit=True),
            sample_newest.connect(),
        ]
    )
    with unchanged(sample_newest), pytest.raises(RolledBack):
        migrate(sample_newest, connect=lambda: next(connections))


def test_a_trigger_that_alters_data_fails_the_proof(sample: Database) -> None:
    sample.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.retry_count := NEW.retry_count + 1; RETURN NEW; END $$",
        "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    with unchanged(sample), pytest.raises(RolledBack, match="proof failed"):
        migrate(sample)


def test_a_trigger_that_swallows_the_update_fails_the_proof(sample_newest: Database) -> None:
    sample_newest.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER swallow BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    with unchanged(sample_newest), pytest.raises(RolledBack, match="proof failed"):
        migrate(sample_newest)


def test_pending_deferred_triggers_do_not_stop_it(sample_newest: Database) -> None:
    sample_newest.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON enrichment_logs"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing()",
    )
    assert migrate(sample_newest).proof.passed


class _RefusedCommit(psycopg.Connection[Any]):
    """A connection whose server answers COMMIT with an error."""

    def commit(self) -> None:
        self.execute("SELECT 1 / 0")


def test_a_commit_that_the_server_refuses_is_told_as_rolled_back_at_once(
    sample_newest: Database,
) -> None:
    """The run's own session is not waited for."""

    def connect() -> psycopg.Connection[Any]:
        return _RefusedCommit.connect(sample_newest.conninfo, autocommit=True)

    began = time.monotonic()
    with unchanged(sample_newest), pytest.raises(RolledBack, match="22012"):
        migrate(sample_newest, connect=connect)
    assert time.monotonic() - began < 8


def test_a_server_that_is_gone_right_before_the_commit_is_told_as_rolled_back(
    sample_newest: Database,
) -> None:
    class Lost(psycopg.Connection[Any]):
        def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
            if query == "SELECT pg_backend_pid()":
                sample_newest.execute(f"SELECT pg_terminate_backend({self.info.backend_pid})")
            return super().execute(query, *arguments, **more)

    def connect() -> psycopg.Connection[Any]:
        return Lost.connect(sample_newest.conninfo, autocommit=True)

    with unchanged(sample_newest), pytest.raises(RolledBack, match="was lost"):
        migrate(sample_newest, connect=connect)


def test_a_table_changed_after_the_plan_is_refused(sample: Database) -> None:
    catalog = catalog_of(sample)
    sample.execute("ALTER TABLE enrichment_logs ADD COLUMN surprise integer")
    with unchanged(sample), pytest.raises(RefusedError, match="surprise"):
        migrate(sample, catalog=catalog)


def test_a_table_dropped_after_the_plan_is_refused(sample_newest: Database) -> None:
    catalog = catalog_of(sample_newest)
    sample_newest.execute("ALTER TABLE enrichment_logs RENAME TO elsewhere")
    with unchanged(sample_newest), pytest.raises(RefusedError, match="no longer there"):
        migrate(sample_newest, catalog=catalog)


def test_a_lock_that_is_not_to_be_had_is_refused_and_its_holder_named(sample: Database) -> None:
    with sample.connect(application_name="nightly report") as reader, reader.transaction():
        reader.execute("SELECT FROM enrichment_logs LIMIT 1")
        with pytest.raises(RefusedError, match=r"nightly report.*AccessShareLock"):
            migrate(sample)
    assert migrate(sample).proof.passed


def test_two_runs_exclude_each_other(sample: Database) -> None:
    """The second comes while the first is in the middle of its transaction."""
    catalog, plan = catalog_of(sample), plan_of(sample)
    inside, refused = threading.Event(), threading.Event()
    results: list[Any] = []

    def wait(text: str) -> None:
        if text.endswith("before the change"):
            inside.set()
            assert refused.wait(30)

    first = threading.Thread(
        target=lambda: results.append(migrate(sample, catalog=catalog, plan=plan, progress=wait))
    )
    first.start()
    assert inside.wait(30)
    with pytest.raises(RunInProgress, match="pid "):
        migrate(sample, catalog=catalog, plan=plan)
    refused.set()
    first.join(30)
    assert results[0].proof.passed
    assert sample.value("SELECT count(*) FROM runbook.ledger") == 1


STRICTER = (
    "DO $do$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation"
    " = $$repeatable read$$', current_database()); END $do$"
)


def test_rows_committed_while_it_waits_for_its_lock_are_classified_too(
    sample_newest: Database,
) -> None:
    """Even where the role's transactions would keep an older snapshot."""
    sample_newest.execute(STRICTER)
    catalog, plan = catalog_of(sample_newest), plan_of(sample_newest)
    patient = tuple(replace(s, sql=s.sql.replace("'300ms'", "'30s'")) for s in plan.statements)
    assert patient != plan.statements
    results: list[Any] = []
    runner = threading.Thread(
        target=lambda: results.append(
            migrate(sample_newest, plan=replace(plan, statements=patient), catalog=catalog)
        )
    )
    with sample_newest.connect() as writer, writer.transaction():
        writer.execute(
            "INSERT INTO enrichment_logs (operation, status) VALUES ('cache:late', 'SUCCESS')"
        )
        runner.start()
        while not sample_newest.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert runner.is_alive()
    runner.join(30)
    assert results[0].after.categories["CACHED"] == 2
    assert sample_newest.value("SELECT count(*) FROM llama_logs WHERE category = 'CACHED'") == 2
