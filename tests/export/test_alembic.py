"""The revision, run by the real Alembic: up, checked, down, and refused where it must be."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from runbook.errors import UsageError
from runbook.export import export_alembic
from runbook.plan import build_plan
from runbook.spec import Spec, load_spec
from tests.cases import CASES, Case, kinds
from tests.cli.test_refusals import run
from tests.conftest import Cluster, Database
from tests.dumps import difference, dumped
from tests.export.alembic_project import Project
from tests.migrating import ATOMIC, catalog_of, check, migrate, migrate_online
from tests.run.wayback.rolling_back import examined
from tests.state import database_state


def exported(project: Project, case: Case | None = None, **more: str | None) -> Path:
    """Export the plan of a project's database into it."""
    case = case or Case()
    spec: Spec = case.spec
    catalog = catalog_of(project.database, spec)
    assert catalog.table is not None
    plan = build_plan(spec, catalog, ATOMIC)
    return export_alembic(spec, plan, catalog.table, project.versions, **more)


@pytest.fixture
def project(sample_newest: Database, tmp_path: Path) -> Project:
    project = Project(tmp_path / "alembic", sample_newest, models="shipped")
    project.make()
    return project


def test_a_revision_is_not_written_through_a_link(project: Project, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", "utf-8")
    path = exported(project)
    path.unlink()
    path.symlink_to(victim)
    assert exported(project) == path and not path.is_symlink()
    assert victim.read_text("utf-8") == "precious"


def revision_of(path: Path) -> str:
    return path.name.partition("_")[0]


def test_up_check_and_down_again(sample: Database, tmp_path: Path) -> None:
    project = Project(tmp_path / "alembic", sample, models="shipped")
    project.make()
    before, as_it_was = dumped(sample), project.remember()
    path = exported(project)
    # Whatever runs after it in the same transaction finds the session as it was.
    project.add(
        "later",
        revision_of(path),
        'from alembic import op; op.execute("CREATE TABLE seen AS SELECT '
        "current_setting('search_path') AS path, current_setting('lock_timeout') AS wait, "
        "current_setting('row_security') AS rls\")",
    )
    project.run("upgrade", "head")
    assert all(result.passed for result in check(sample).values())
    assert sample.value("SELECT client FROM runbook.ledger") == "alembic"
    seen = "SELECT ROW(path, wait, rls)::text FROM seen"
    assert sample.value(seen) == '("""$user"", public",0,on)'

    sample.execute("DROP TABLE seen")
    project.run("check")  # raises where anything is left to change
    project.run("downgrade", "first")
    assert not difference(before, dumped(sample))
    assert sample.value("SELECT client FROM runbook.rollback") == "alembic"
    assert sample.value("SELECT version_num FROM alembic_version") == "first"
    (path.parent / "later.py").unlink()
    away = path.rename(path.with_suffix(".away"))
    as_it_was.run("check")  # nothing is pending, and no difference is left
    away.rename(path)
    project.run("upgrade", "head")
    assert all(result.passed for result in check(sample).values())


@pytest.mark.parametrize("name", kinds("llamalog"))
def test_every_kind_of_migration_goes_up_and_down(
    name: str, newest: Cluster, tmp_path: Path
) -> None:
    database = CASES[name].make(newest)
    try:
        project = Project(tmp_path / "alembic", database)
        project.make()
        before = dumped(database)
        exported(project, CASES[name])
        project.run("upgrade", "head")
        results = check(database, CASES[name].spec)
        assert results and all(result.passed for result in results.values())
        project.run("downgrade", "first")
        left = difference(before, dumped(database))
        assert not left or name == "extended type", left  # labels stay
    finally:
        newest.drop(database)


def test_a_cryptographic_proof_runs_as_well(project: Project) -> None:
    text = Path("sha256.toml")
    source = Path(load_spec.__code__.co_filename).parents[1] / "specs" / "llamalog.toml"
    text.write_text(source.read_text("utf-8").replace("title =", 'proof = "sha256"\ntitle =', 1))
    spec = load_spec(str(text))
    catalog = catalog_of(project.database, spec)
    assert catalog.table is not None
    export_alembic(spec, build_plan(spec, catalog, ATOMIC), catalog.table, project.versions)
    project.run("upgrade", "head")
    algorithm = str(project.database.value("SELECT algorithm FROM runbook.ledger"))
    assert algorithm.startswith("SHA-256 over")
    assert project.database.value("SELECT length(fingerprint) FROM runbook.ledger") == 64


def test_where_the_runbook_has_migrated_it_does_nothing(project: Project) -> None:
    path = exported(project)
    migrate_online(project.database)
    with project.database.connect() as connection:
        before = database_state(connection)
        project.run("upgrade", "head")
        after = database_state(connection)
    assert project.database.value("SELECT version_num FROM alembic_version") == revision_of(path)
    assert {key for key in before if before[key] != after[key]} == {"rows of alembic_version"}
    assert project.database.value("SELECT count(*) FROM runbook.ledger") == 1
    project.run("check")
    # The plan that was applied is the online one: only the runbook has its way back.
    with pytest.raises(psycopg.errors.RaiseException, match="no run of this plan"):
        project.run("downgrade", "first")


def test_a_row_that_is_altered_meanwhile_fails_the_proof(project: Project) -> None:
    exported(project)
    project.database.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.retry_count := NEW.retry_count + 1; RETURN NEW; END$$",
        "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    before = dumped(project.database)
    with pytest.raises(psycopg.errors.RaiseException, match="not the one that was reviewed"):
        project.run("upgrade", "head")
    (project.versions / revision_file(project)).unlink()
    exported(project)
    with pytest.raises(psycopg.errors.RaiseException, match="the proof failed"):
        project.run("upgrade", "head")
    assert dumped(project.database) == before
    assert project.database.value("SELECT to_regnamespace('runbook')") is None


def revision_file(project: Project) -> str:
    (name,) = (path.name for path in project.versions.glob("*_llamalog.py"))
    return name


def test_a_label_set_by_hand_is_not_lost(project: Project) -> None:
    exported(project)
    project.run("upgrade", "head")
    project.database.execute("UPDATE llama_logs SET category = 'FAILED' WHERE category = 'CACHED'")
    before = dumped(project.database)
    with pytest.raises(psycopg.errors.RaiseException, match="1 rows have a label that the rules"):
        project.run("downgrade", "first")
    assert dumped(project.database) == before


def test_its_sql_is_printed_for_who_runs_it_by_hand(project: Project) -> None:
    path = exported(project)
    text = project.run("upgrade", f"first:{revision_of(path)}", sql=True)
    script = Path("offline.sql")
    script.write_text(text)
    psql = project.database.binaries / "psql"
    subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, project.database.conninfo],
        check=True,
        capture_output=True,
    )
    assert all(result.passed for result in check(project.database).values())


def test_it_follows_the_head_or_says_that_there_are_several(project: Project) -> None:
    project.add("second", "first")
    path = exported(project)
    assert 'down_revision = "second"' in path.read_text("utf-8").replace("'", '"')
    assert exported(project) == path, "written again, it follows the same one"
    project.add("other", "first")
    with pytest.raises(UsageError, match="have 2 heads: other, second"):
        exported(project)
    again = exported(project, down_revision="other")
    assert "down_revision = 'other'" in again.read_text("utf-8")
    project.add("after", revision_of(path))
    with pytest.raises(UsageError, match="and another one follows it"):
        exported(project)
    (project.versions / "broken.py").write_text("revision = ")
    with pytest.raises(UsageError, match="cannot be read"):
        exported(project)


def test_a_rollback_says_that_alembic_still_has_it(project: Project) -> None:
    exported(project)
    project.run("upgrade", "head")
    (said,) = (one for one in examined(project.database) if one.code == "tool-history")
    assert "Alembic applied the run" in said.message


def test_nothing_is_exported_twice_over(project: Project) -> None:
    migrate(project.database)
    ended = run(
        "export", "alembic", "--database-url", project.database.url, "--out", str(project.versions)
    )
    assert ended.returncode == 3 and "there is nothing to export" in ended.stderr
    assert not list(project.versions.glob("*_llamalog.py"))
