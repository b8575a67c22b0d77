"""Models and table: every difference is found, before the migration and after it."""

from typing import Any

import pytest

from runbook.spec import Spec, load_spec
from runbook.verify.models import foreseen_findings
from tests.conftest import Database
from tests.migrating import check, migrate, migrate_online

DIFFERENCES = {
    "a column more": (
        "ALTER TABLE {table} ADD COLUMN extra integer",
        "column extra: in the database, not in the models",
    ),
    "another type": (
        "ALTER TABLE {table} ALTER COLUMN job_id TYPE varchar(99)",
        "column job_id: its type is VARCHAR(99) in the database, and VARCHAR(100) in the models",
    ),
    "another default": (
        "ALTER TABLE {table} ALTER COLUMN retry_count DROP DEFAULT",
        "column retry_count: its default is none in the database, and 0 in the models",
    ),
    "NULL allowed": (
        "ALTER TABLE {table} ALTER COLUMN operation DROP NOT NULL",
        "column operation: its nullability is NULL in the database, and NOT NULL in the models",
    ),
    "an index less": (
        "DROP INDEX {table}_operation_idx",
        "index {table}_operation_idx (operation): in the models, not in the database",
    ),
    "an index more": (
        "CREATE INDEX mine ON {table} (job_id)",
        "index mine (job_id): in the database, not in the models",
    ),
    "a key less": (
        "ALTER TABLE {table} DROP CONSTRAINT {table}_album_id_fkey",
        "foreign key {table}_album_id_fkey (album_id): in the models, not in the database",
    ),
    "a unique constraint more": (
        "ALTER TABLE {table} ADD CONSTRAINT twice UNIQUE (id, user_id)",
        "constraint twice (id, user_id): in the database, not in the models",
    ),
    "a primary key of another name": (
        "ALTER TABLE {table} RENAME CONSTRAINT {table}_pkey TO mine",
        "primary key: it is mine in the database, and {table}_pkey in the models",
    ),
    "a foreign key of another name": (
        "ALTER TABLE {table} RENAME CONSTRAINT {table}_user_id_fkey TO mine",
        "foreign key: it is mine in the database, and {table}_user_id_fkey in the models",
    ),
    "labels in another order": (
        """ALTER TYPE "DataQuality" RENAME VALUE 'LOW' TO 'POOR'""",
        "type DataQuality: its labels are POOR, MEDIUM, HIGH in the database, and LOW, MEDIUM, "
        "HIGH in the models",
    ),
}


def drift_of(database: Database) -> Any:
    return check(database)["model-drift"]


def foreseen(database: Database, spec: Spec | None = None) -> list[str]:
    with database.session() as connection:
        return [one.message for one in foreseen_findings(connection, spec or load_spec("llamalog"))]


@pytest.mark.parametrize("apply", [migrate, migrate_online])
def test_there_is_none_on_the_sample(sample: Database, apply: Any) -> None:
    assert foreseen(sample) == []
    apply(sample)
    found = drift_of(sample)
    assert found.passed and found.observed == {"differences": []}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_kind_of_difference_is_found_before_and_after(
    name: str, sample_newest: Database
) -> None:
    change, said = DIFFERENCES[name]
    sample_newest.execute(change.format(table="enrichment_logs"))
    (message,) = foreseen(sample_newest)
    assert said.format(table="enrichment_logs") in message
    migrate(sample_newest)
    found = drift_of(sample_newest)
    assert not found.passed
    assert found.observed == {"differences": [said.format(table="llama_logs")]}


def test_comments_and_other_tables_are_none(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "COMMENT ON TABLE llama_logs IS 'ours'",
        "COMMENT ON COLUMN llama_logs.reason IS 'why'",
        "CREATE TABLE other (id integer)",
        "ALTER TABLE albums ADD COLUMN extra integer",
    )
    assert drift_of(sample_newest).passed


def test_models_that_cannot_be_read_are_told_and_fail(sample_newest: Database) -> None:
    spec = load_spec("llamalog")
    assert spec.models
    lost = spec.model_copy(update={"models": spec.models.model_copy(update={"module": "nowhere"})})
    (message,) = foreseen(sample_newest, lost)
    assert "they cannot be read (ModuleNotFoundError: No module named 'nowhere')" in message
    migrate(sample_newest)
    found = check(sample_newest, lost)["model-drift"]
    assert not found.passed
    assert found.observed == {"error": "ModuleNotFoundError: No module named 'nowhere'"}
