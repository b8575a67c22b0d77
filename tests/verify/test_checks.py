"""The checks: all pass after a migration, and each can fail."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from runbook.spec import load_spec
from runbook.verify import Counted, verify
from tests.conftest import Cluster, Database
from tests.migrating import catalog_of, check, migrate

SIX = ["SCHEMA-01", "SCHEMA-02", "SCHEMA-03", "SCHEMA-04", "SCHEMA-05", "distribution"]


@pytest.fixture
def migrated(newest: Cluster) -> Iterator[Database]:
    """A migrated sample database."""
    made = newest.sample()
    migrate(made)
    yield made
    newest.drop(made)


def test_every_check_passes_after_the_migration_the_six_of_the_plan_first(
    sample: Database,
) -> None:
    migrate(sample)
    results = check(sample)
    assert list(results)[:6] == SIX
    assert len(results) == 13 and all(result.passed for result in results.values())
    assert all(result.sql and result.title for result in results.values())


BY_RUN = (
    "UPDATE runbook.ledger"
    " SET plan = jsonb_set(plan, '{cutover,snapshot}', to_jsonb(pg_current_snapshot()::text))"
)
"""Puts the cutover after what was written so far, as if the run had written it."""

TAMPERED = {
    "SCHEMA-01": "ALTER TABLE llama_logs RENAME COLUMN reason TO why",
    "SCHEMA-02": "CREATE TABLE enrichment_logs ()",
    "SCHEMA-03": "ALTER TYPE \"LlamaLogCategory\" ADD VALUE 'OTHER'",
    "SCHEMA-04": "ALTER TABLE llama_logs RENAME COLUMN user_id TO owner_id",
    "SCHEMA-05": "ALTER TABLE llama_logs ALTER category DROP NOT NULL;"
    "UPDATE llama_logs SET category = NULL WHERE operation = 'admin_correction'",
    "distribution": f"UPDATE llama_logs SET category = 'FAILED' WHERE category = 'CACHED';{BY_RUN}",
    "rules": f"UPDATE llama_logs SET category = 'FAILED' WHERE category = 'CACHED';{BY_RUN}",
    "column": "ALTER TABLE llama_logs ALTER category SET DEFAULT 'CREATED'",
    "index": 'DROP INDEX "llama_logs_category_createdAt_idx";'
    'CREATE INDEX "llama_logs_category_createdAt_idx" ON llama_logs (category, created_at DESC)',
    "old-names": "ALTER INDEX llama_logs_user_id_idx RENAME TO enrichment_logs_user_id_idx",
    "foreign-keys": "ALTER TABLE llama_logs DROP CONSTRAINT llama_logs_user_id_fkey,"
    ' ADD CONSTRAINT llama_logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES "User" NOT VALID',
}


@pytest.mark.parametrize(("name", "tampering"), TAMPERED.items(), ids=TAMPERED)
def test_it_fails_when_what_it_asks_for_does_not_hold(
    name: str, tampering: str, migrated: Database
) -> None:
    migrated.execute(*tampering.split(";"))
    failed = [result.id for result in check(migrated).values() if not result.passed]
    assert name in failed


def test_an_invalid_index_fails_its_check(migrated: Database) -> None:
    migrated.execute(
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = '\"llama_logs_category_createdAt_idx\"'::regclass"
    )
    assert not check(migrated)["index"].passed


def test_rows_written_since_are_no_fault_of_the_run(migrated: Database) -> None:
    row = "INSERT INTO llama_logs (operation, status, category) VALUES ('cache:x', 'SUCCESS', '{}')"
    migrated.execute(row.format("CACHED"))
    assert all(result.passed for result in check(migrated).values())
    migrated.execute(row.format("CREATED"))
    failed = [result.id for result in check(migrated).values() if not result.passed]
    assert failed == []
    migrated.execute(BY_RUN)
    failed = [result.id for result in check(migrated).values() if not result.passed]
    assert failed == ["distribution", "rules"]


def test_a_role_that_may_only_read_can_verify(migrated: Database) -> None:
    migrated.execute(
        "DROP ROLE IF EXISTS auditor",
        "CREATE ROLE auditor LOGIN",
        "GRANT USAGE ON SCHEMA runbook TO auditor",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public, runbook TO auditor",
    )
    as_auditor = replace(migrated, conninfo=f"{migrated.conninfo} user=auditor")
    assert all(result.passed for result in check(as_auditor).values())
    migrated.execute("DROP OWNED BY auditor", "DROP ROLE auditor")


def test_after_a_run_the_checks_on_rows_are_answered_by_what_it_counted_under_its_lock(
    newest: Cluster,
) -> None:
    database, spec = newest.sample(), load_spec("llamalog")
    applied = migrate(database)
    counted = Counted.of(applied)
    entry = catalog_of(database).applied
    assert entry is not None
    with database.session() as connection:
        verified = verify(connection, spec, entry, counted)
        rows = [result for result in verified.results if result.sql == applied.tally_sql]
        assert [result.id for result in rows] == ["SCHEMA-05", "distribution", "rules"]
        assert all(result.passed for result in verified.results)
        assert rows[1].observed == dict(applied.after.categories)
        # Whoever counts afresh gets the same answers.
        afresh = {result.id: result for result in verify(connection, spec, entry).results}
        assert [afresh[result.id].observed for result in rows] == [r.observed for r in rows]
        for wrong in (
            replace(counted, total=counted.total + 1),
            replace(counted, differing=1),
            replace(counted, categories={**counted.categories, "CACHED": 0, "FAILED": 1}),
        ):
            assert not all(r.passed for r in verify(connection, spec, entry, wrong).results)
    newest.drop(database)
