"""What Prisma's folder and table get: the file's schema, the edits, the row, and every refusal."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.errors import RefusedError, RolledBack, Stopped, UsageError
from runbook.export import Prisma, export_prisma
from runbook.export.prisma import forget
from runbook.export.prisma.migration import migration_sql
from runbook.plan import Plan, build_plan
from runbook.spec import load_spec
from tests.cases import CASES, Case, kinds
from tests.conftest import Cluster, Database
from tests.dumps import dumped
from tests.migrating import (
    ATOMIC,
    catalog_of,
    migrate,
    migrate_online,
    stop_online,
)
from tests.notebook.test_outcomes import told
from tests.prisma.application import INIT, prisma_folder
from tests.run.wayback.rolling_back import roll_back

HISTORY = """
CREATE TABLE _prisma_migrations (
    id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL, finished_at timestamptz,
    migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
    started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0
)"""
"""As Prisma 6.17.1 makes it."""

ROWS = "SELECT coalesce(jsonb_agg(to_jsonb(m) ORDER BY started_at), '[]') FROM _prisma_migrations m"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prisma_folder(tmp_path / "app" / "prisma")


def applied(database: Database, folder: Path) -> None:
    """Have the history hold what the folder holds."""
    database.execute(HISTORY)
    for file in sorted(folder.glob("migrations/*/migration.sql")):
        insert(database, file.parent.name, hashlib.sha256(file.read_bytes()).hexdigest())


def insert(database: Database, name: str, checksum: str, finished: str = "now()") -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name,"
            f" applied_steps_count) VALUES (%s, %s, {finished}, %s, 1)".encode(),
            [str(uuid.uuid4()), checksum, name],
        )


def planned(database: Database, case: Case | None = None) -> tuple[Any, Any, Plan]:
    spec = (case or Case()).spec
    catalog = catalog_of(database, spec)
    return spec, catalog, build_plan(spec, catalog, ATOMIC)


def exported(database: Database, folder: Path) -> str:
    return export_prisma(*planned(database), folder).migration


def found(database: Database, folder: Path) -> Prisma:
    spec, catalog, plan = planned(database)
    with database.connect() as connection:
        return Prisma.of(connection, spec, catalog, plan, folder)


@pytest.fixture
def ready(sample_newest: Database, folder: Path) -> Iterator[Database]:
    """A database whose history is the folder's, and a folder that holds the migration."""
    applied(sample_newest, folder)
    exported(sample_newest, folder)
    yield sample_newest


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", kinds("extended type"))
def test_the_file_gives_the_schema_that_the_runbook_gives(name: str, newest: Cluster) -> None:
    case = CASES[name]
    databases = [case.make(newest) for _ in range(2)]
    try:
        text = migration_sql(*planned(databases[0], case))
        databases[0].execute(text)
        migrate(databases[1], case.spec)
        # A line break in a name hides from the dump's reader where the rows begin: sort all lines.
        there, here = ({*"\n".join(dumped(one)).splitlines()} for one in databases)
        assert there == here
    finally:
        for one in databases:
            newest.drop(one)


def test_the_file_is_the_same_for_every_version_and_number_of_rows(
    sample: Database, sample_newest: Database
) -> None:
    here = migration_sql(*planned(sample))
    sample_newest.execute("DELETE FROM enrichment_logs WHERE operation LIKE 'enrichment:%'")
    assert migration_sql(*planned(sample_newest)) == here
    sample_newest.execute(here)
    names = sample_newest.value(
        "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'enrichment@_logs%' ESCAPE '@'"
    )
    assert names == 0, "PostgreSQL 18's NOT NULL constraints follow, though 15 has none to tell of"


def test_a_label_that_must_be_committed_first_is_refused(newest: Cluster) -> None:
    case = CASES["extended type"]
    database = case.make(newest)
    try:
        with pytest.raises(UsageError, match="55P04"):
            migration_sql(*planned(database, case))
    finally:
        newest.drop(database)


def test_the_file_sorts_after_every_other(sample_newest: Database, folder: Path) -> None:
    later = folder / "migrations" / "29990101000000_later"
    later.mkdir()
    (later / "migration.sql").write_text("SELECT 1")
    assert exported(sample_newest, folder) == ("29990101000001_rename_enrichmentlog_to_llamalog")


def test_a_schema_is_not_written_through_a_link(
    sample_newest: Database, folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", "utf-8")
    (schema,) = folder.rglob("*.prisma")
    before = schema.read_bytes()
    schema.with_name(f".{schema.name}.part").symlink_to(victim)
    exported(sample_newest, folder)
    assert victim.read_text("utf-8") == "precious"
    assert schema.read_bytes() != before and not schema.is_symlink()


# -- the row -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["atomic", pytest.param("online", marks=pytest.mark.soak)])
def test_the_migration_is_recorded_with_the_change_and_forgotten_with_its_rollback(
    ready: Database, folder: Path, mode: str
) -> None:
    before = ready.value(ROWS)
    name = sorted(path.name for path in folder.glob("migrations/*_llamalog"))[-1]
    file = folder / "migrations" / name / "migration.sql"
    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder), "--mode", mode)
    assert (code, content["outcome"]) == (0, "succeeded")
    added = [row for row in ready.value(ROWS) if row not in before]
    assert [(row["id"], row["migration_name"], row["checksum"]) for row in added] == [
        (content["run_id"], name, hashlib.sha256(file.read_bytes()).hexdigest())
    ]
    assert added[0]["finished_at"] and added[0]["rolled_back_at"] is None
    (asked,) = (one for one in content["checks"] if one["id"] == "prisma-history")
    assert asked["passed"]

    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder))
    assert (code, content["outcome"]) == (0, "already-applied")
    assert len(content["checks"]) == 14 and all(one["passed"] for one in content["checks"])

    code, content, _ = told("rollback", ready)
    assert code == 0 and name in content["remedy"]
    assert ready.value(ROWS) == before


def test_a_repeat_minds_its_own_migration_alone(ready: Database, folder: Path) -> None:
    """Every deploy may repeat the command, before Prisma runs what came later."""
    migrate(ready, records=(found(ready, folder).record,))
    added(folder, "29990101000000_pending")
    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder))
    assert (code, len(content["checks"])) == (0, 14)
    shutil.rmtree(own(folder))
    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder))
    assert (code, len(content["checks"])) == (0, 13), "squashed: there is nothing to compare"


def test_a_repeat_finds_that_the_row_is_gone(ready: Database, folder: Path) -> None:
    migrate(ready)
    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder))
    assert code == 4
    assert [one["id"] for one in content["checks"] if not one["passed"]] == ["prisma-history"]


def test_a_stopped_run_records_it_when_it_is_resumed(ready: Database, folder: Path) -> None:
    prisma = found(ready, folder)
    stop_online(ready)
    assert len(ready.value(ROWS)) == 1
    spec = load_spec("llamalog")
    catalog = catalog_of(ready, spec)
    assert catalog.unfinished is not None
    with ready.connect() as connection:
        again = Prisma.of(connection, spec, catalog, Plan.of(catalog.unfinished.plan), folder)
    assert again.migration == prisma.migration, "known by its text, although the table has changed"
    run = migrate_online(ready, records=(again.record,))
    assert [row["id"] for row in ready.value(ROWS)][1:] == [run.run_id]
    assert roll_back(ready).undone.forgotten == (prisma.migration.name,)


@pytest.mark.parametrize("mode", ["atomic", "online"])
def test_nothing_is_recorded_while_prisma_is_at_work(
    ready: Database, folder: Path, mode: str
) -> None:
    prisma = found(ready, folder)
    apply = {"atomic": migrate, "online": migrate_online}[mode]
    with ready.connect() as other:
        other.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises((RolledBack, Stopped), match="prisma migrate is at work"):
            apply(ready, records=(prisma.record,))
        assert len(ready.value(ROWS)) == 1
    if mode == "atomic":
        assert ready.value("SELECT to_regclass('llama_logs')") is None
    else:
        apply(ready, records=(prisma.record,))
        assert len(ready.value(ROWS)) == 2


def test_a_history_that_changed_meanwhile_rolls_everything_back(
    ready: Database, folder: Path
) -> None:
    prisma = found(ready, folder)
    insert(ready, "20250101000000_meanwhile", "0" * 64)
    with pytest.raises(RolledBack, match="has changed since it was looked at"):
        migrate(ready, records=(prisma.record,))
    assert ready.value("SELECT to_regclass('llama_logs')") is None


def test_the_rows_of_others_stay(ready: Database) -> None:
    before = ready.value(ROWS)
    with ready.connect() as connection:
        assert forget(connection, str(uuid.uuid4()), "runbook") == ()
    migrate(ready)
    assert roll_back(ready).undone.forgotten == ()
    assert ready.value(ROWS) == before


def test_a_role_that_may_not_see_the_history_can_still_roll_back(ready: Database) -> None:
    migrate(ready)
    ready.execute("CREATE ROLE blind_one LOGIN")
    try:
        with psycopg.connect(ready.conninfo, user="blind_one") as connection:
            assert forget(connection, str(uuid.uuid4()), "runbook") == ()
    finally:
        ready.execute("DROP ROLE blind_one")


# -- refusals ----------------------------------------------------------------------------------


def added(folder: Path, name: str) -> str:
    """Add a migration to the folder; return its checksum."""
    (folder / "migrations" / name).mkdir()
    (folder / "migrations" / name / "migration.sql").write_text("SELECT 1")
    return hashlib.sha256(b"SELECT 1").hexdigest()


def own(folder: Path) -> Path:
    (path,) = folder.glob("migrations/*_rename_enrichmentlog_to_llamalog")
    return path


REFUSALS: dict[str, tuple[Any, str]] = {
    "no migration": (
        lambda database, folder: shutil.rmtree(own(folder)),
        "holds no migration of this plan",
    ),
    "an edited one": (
        lambda database, folder: (own(folder) / "migration.sql").write_text("SELECT 1"),
        "does not do what this plan does",
    ),
    "another table": (
        lambda database, folder: database.execute("CREATE INDEX enrichment_logs_x ON"
                                                  " enrichment_logs (job_id)"),
        "does not do what this plan does",
    ),
    "pending before": (
        lambda database, folder: added(folder, "20250101000000_pending"),
        "the folder has 20250101000000_pending, and the database has not",
    ),
    "run from elsewhere": (
        lambda database, folder: insert(database, "20250101000000_theirs", "0" * 64),
        "the database has 20250101000000_theirs, and the folder has not",
    ),
    "edited since": (
        lambda database, folder: (folder / "migrations" / INIT / "migration.sql").write_text("--"),
        f"{INIT} was edited since it was run",
    ),
    "failed": (
        lambda database, folder: insert(database, "20250101000000_bad", "0" * 64, "NULL"),
        "migration 20250101000000_bad failed there, or is under way",
    ),
    "recorded without being done": (
        lambda database, folder: insert(database, own(folder).name, "0" * 64),
        "already, but not what it does",
    ),
    "run out of order": (
        lambda database, folder: insert(
            database, "29990101000000_later", added(folder, "29990101000000_later")
        ),
        "29990101000000_later, which comes after",
    ),
    "no history": (
        lambda database, folder: database.execute("DROP TABLE _prisma_migrations"),
        "The database has no table _prisma_migrations",
    ),
    "several histories": (
        lambda database, folder: database.execute(
            "CREATE SCHEMA a", "CREATE SCHEMA b", "CREATE TABLE a._prisma_migrations ()",
            "ALTER TABLE _prisma_migrations SET SCHEMA b",
        ),
        "Table _prisma_migrations is in schemas a, b, and not in public.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_history_that_is_not_the_databases_is_refused(
    name: str, ready: Database, folder: Path
) -> None:
    prepare, message = REFUSALS[name]
    prepare(ready, folder)
    with pytest.raises(RefusedError) as refused:
        found(ready, folder)
    assert message in refused.value.message
    assert refused.value.remedy.startswith("Nothing was changed.")


def test_line_ends_of_another_system_are_no_edit(ready: Database, folder: Path) -> None:
    for file in folder.glob("migrations/*/migration.sql"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    migration = found(ready, folder).migration
    assert migration.checksum == hashlib.sha256(migration.content).hexdigest()


def test_a_migration_taken_back_is_none(ready: Database, folder: Path) -> None:
    insert(ready, "20250101000000_undone", "0" * 64)
    ready.execute(
        "UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name LIKE '%undone'"
    )
    assert found(ready, folder).migration.name == own(folder).name


def test_a_role_that_may_not_write_the_history_is_refused(ready: Database, folder: Path) -> None:
    spec, catalog, plan = planned(ready)
    ready.execute(
        "CREATE ROLE only_reads LOGIN", "GRANT SELECT ON _prisma_migrations TO only_reads"
    )
    try:
        with (
            psycopg.connect(ready.conninfo, user="only_reads", autocommit=True) as connection,
            pytest.raises(RefusedError, match="this role may not write"),
        ):
            Prisma.of(connection, spec, catalog, plan, folder)
    finally:
        ready.execute("REVOKE ALL ON _prisma_migrations FROM only_reads", "DROP ROLE only_reads")


def test_a_refusal_is_archived_and_says_what_to_do(ready: Database, folder: Path) -> None:
    shutil.rmtree(own(folder))
    code, content, _ = told("migrate", ready, "--prisma-dir", str(folder))
    assert code == 3
    assert content["message"].endswith("migrations holds no migration of this plan.")
    assert "runbook export prisma" in content["remedy"]
    assert not {one["id"] for one in content["checks"]}
    assert ready.value("SELECT to_regclass('llama_logs')") is None


def test_a_folder_that_is_none_is_wrong_usage(sample_newest: Database, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"is no Prisma folder: it holds no \.prisma file"):
        exported(sample_newest, empty)
    assert list(empty.iterdir()) == []
