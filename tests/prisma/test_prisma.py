"""The application's own tool sees the migration as done, and its rollback as never having been."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.export import Prisma, export_prisma
from runbook.plan import build_plan
from runbook.spec import load_spec
from tests.conftest import MAJORS, Cluster, cluster_of
from tests.migrating import ATOMIC, catalog_of, check, migrate, migrate_online
from tests.prisma.application import EMPTY, INSTALLED, Application, prisma_folder
from tests.run.wayback.rolling_back import roll_back

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="`make prisma-check` runs these with the real Prisma, where npm is there"
)

PLAIN_SQL = Path(__file__).parents[2] / "bench" / "plan.sql"
"""The plan's own SQL: what was run without this tool."""

COUNTS = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1}


READ_BY_PRISMA = [major for major in MAJORS if major < 18]
"""Prisma 6.17.1 cannot read a database of PostgreSQL 18 (`db pull` crashes on NOT NULL constraints,
which have entries of their own there), migrated or not."""


@pytest.fixture(params=READ_BY_PRISMA, ids=lambda major: f"pg{major}")
def application(
    request: pytest.FixtureRequest, clusters: dict[int, Cluster], tmp_path: Path
) -> Iterator[Application]:
    cluster = cluster_of(clusters, request.param)
    made = Application.make(tmp_path / "app", cluster)
    yield made
    cluster.drop(made.database)


def exported(application: Application) -> str:
    spec = load_spec("llamalog")
    catalog = catalog_of(application.database, spec)
    plan = build_plan(spec, catalog, ATOMIC)
    return export_prisma(spec, catalog, plan, application.prisma_dir).migration


def recording(application: Application) -> Prisma:
    """Return what records the migration of the application's folder."""
    spec = load_spec("llamalog")
    catalog = catalog_of(application.database, spec)
    plan = build_plan(spec, catalog, ATOMIC)
    with application.database.connect() as connection:
        return Prisma.of(connection, spec, catalog, plan, application.prisma_dir)


def assert_nothing_to_do(application: Application) -> None:
    """Hold that Prisma finds nothing pending and no drift, in database and folder."""
    assert "is valid" in application.prisma("validate")
    assert application.drift() == EMPTY
    assert application.file_drift() == EMPTY
    assert "Database schema is up to date!" in application.prisma("migrate", "status")
    assert "No pending migrations to apply." in application.prisma("migrate", "deploy")


@pytest.mark.parametrize("mode", ["atomic", "online"])
def test_prisma_sees_the_migration_as_done_and_its_rollback_as_never_been(
    application: Application, mode: str
) -> None:
    assert_nothing_to_do(application)
    name = exported(application)
    assert name in application.prisma("migrate", "status", fails=True), "pending until it is run"
    apply = {"atomic": migrate, "online": migrate_online}[mode]
    apply(application.database, records=(recording(application).record,))
    assert all(result.passed for result in check(application.database).values())

    assert_nothing_to_do(application)
    known = application.generated()
    assert {"LlamaLog", "LlamaLogCategory", "User"} <= known
    assert not any("EnrichmentLog" in one for one in known)
    assert application.counted() == COUNTS

    assert roll_back(application.database).undone.forgotten == (name,)
    shutil.rmtree(application.prisma_dir)
    prisma_folder(application.prisma_dir)
    assert_nothing_to_do(application)
    assert "EnrichmentLog" in application.generated()


def test_prisma_runs_the_file_by_itself_to_the_same_end(application: Application) -> None:
    """On a developer's database nobody runs the runbook."""
    exported(application)
    assert "successfully applied" in application.prisma("migrate", "deploy")
    assert_nothing_to_do(application)
    application.generated()
    assert application.counted() == COUNTS


def test_only_columns_move_when_prisma_formats_the_schema(application: Application) -> None:
    exported(application)
    before = application.schema
    application.prisma("format")
    assert [line.split() for line in application.schema.splitlines()] == [
        line.split() for line in before.splitlines()
    ]


def test_the_plain_sql_leaves_sixteen_differences_and_is_run_again(
    application: Application,
) -> None:
    """The control: these checks can fail."""
    name = exported(application)
    application.database.execute(PLAIN_SQL.read_text("utf-8"))
    application.database.execute("ALTER TABLE llama_logs ALTER COLUMN category DROP DEFAULT")
    schema = application.schema.replace(', map: "llama_logs_category_createdAt_idx"', "")
    (application.prisma_dir / "schema.prisma").write_text(schema)
    statements = re.findall(r"^(?:ALTER|CREATE|DROP)[^;]*;", application.drift(), re.MULTILINE)
    assert len(statements) == 16, statements
    application.prisma("migrate", "status", fails=True)
    assert name in application.prisma("migrate", "deploy", fails=True)
    unfinished = "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NULL"
    assert application.database.value(unfinished) == name


def test_a_checksum_that_is_not_the_files_is_seen_by_prisma(application: Application) -> None:
    """Why the row holds the file's checksum, and not any."""
    exported(application)
    migrate(application.database, records=(recording(application).record,))
    (own,) = application.prisma_dir.glob("migrations/*_llamalog/migration.sql")
    own.write_text(own.read_text("utf-8") + "-- edited\n")
    said = application.prisma("migrate", "dev", fails=True)
    assert "was modified after it was applied" in said and "We need to reset" in said
