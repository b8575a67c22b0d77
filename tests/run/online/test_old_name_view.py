"""The view under the old name: an application that knows no other goes on as before, and is told
apart from one that does; `runbook contract` takes the view away."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.plan import build_plan
from runbook.run.usage import uses
from runbook.spec import load_spec
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, ONLINE, catalog_of, check, migrate, migrate_online
from tests.notebook.papermilling import manifest
from tests.notebook.test_online import by_papermill
from tests.notebook.test_outcomes import told
from tests.operations.test_specs import ONLY_RENAME, TICKETS, spec_of

Way = Callable[..., Any]

GRANTS = (
    "DROP ROLE IF EXISTS writer",
    "CREATE ROLE writer",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON enrichment_logs TO writer",
    "DROP ROLE IF EXISTS clerk",
    "CREATE ROLE clerk",
    "GRANT SELECT (id, operation, status), INSERT (operation, status), UPDATE (status)"
    " ON enrichment_logs TO clerk",
    "DROP ROLE IF EXISTS stranger",
    "CREATE ROLE stranger",
)


def with_view(way: str, database: Database) -> None:
    """Migrate a database, leaving the view."""
    spec, catalog = load_spec("llamalog"), catalog_of(database)
    options = replace({"atomic": ATOMIC, "online": ONLINE}[way], old_name_view=True)
    run: Way = {"atomic": migrate, "online": migrate_online}[way]
    run(database, catalog=catalog, plan=build_plan(spec, catalog, options))


@pytest.fixture(params=[pytest.param("atomic", marks=pytest.mark.soak), "online"])
def served(request: pytest.FixtureRequest, sample: Database) -> Database:
    """A migrated database with the view."""
    sample.execute(*GRANTS)
    with_view(request.param, sample)
    return sample


@pytest.fixture
def old(served: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection of an application that knows the old name alone."""
    with served.connect(application_name="old application") as connection:
        yield connection


def one(connection: psycopg.Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row and len(row) == 1 else row


def category(connection: psycopg.Connection[Any], id_: Any) -> Any:
    return one(connection, "SELECT category::text FROM llama_logs WHERE id = %s", id_)


INSERT = "INSERT INTO enrichment_logs (operation, status) VALUES (%s, %s) RETURNING id"


@pytest.mark.parametrize(
    ("operation", "status", "label"),
    [
        ("cache:new", "SUCCESS", "CACHED"),
        ("admin_correction", "FAILED", "CORRECTED"),
        ("spotify:sync", "PENDING", "ENRICHED"),
        ("elsewhere", "FAILED", "FAILED"),
        ("elsewhere", "SUCCESS", "CREATED"),
    ],
)
def test_a_new_row_is_classified(
    operation: str, status: str, label: str, old: psycopg.Connection[Any]
) -> None:
    assert category(old, one(old, INSERT, operation, status)) == label


def test_defaults_are_those_of_the_table(old: psycopg.Connection[Any]) -> None:
    id_ = one(old, INSERT, "elsewhere", "SUCCESS")
    stored = one(old, "SELECT to_jsonb(l) - 'category' FROM llama_logs l WHERE id = %s", id_)
    assert stored == one(old, "SELECT to_jsonb(e) FROM enrichment_logs e WHERE id = %s", id_)
    assert stored["created_at"] and stored["retry_count"] == 0


def test_an_update_of_what_the_rules_look_at_classifies_anew(
    old: psycopg.Connection[Any],
) -> None:
    id_ = one(old, INSERT, "elsewhere", "SUCCESS")
    update = "UPDATE enrichment_logs SET {} WHERE id = %s RETURNING operation, status::text"
    assert one(old, update.format("status = 'FAILED'"), id_) == ("elsewhere", "FAILED")
    assert category(old, id_) == "FAILED"
    assert one(old, update.format("operation = 'cache:x'"), id_) == ("cache:x", "FAILED")
    assert category(old, id_) == "CACHED"
    one(old, "DELETE FROM enrichment_logs WHERE id = %s RETURNING id", id_)
    assert category(old, id_) is None


def test_on_conflict_works_through_it(old: psycopg.Connection[Any]) -> None:
    id_ = one(old, INSERT, "elsewhere", "SUCCESS")
    insert = "INSERT INTO enrichment_logs (id, operation, status) VALUES (%s, 'cache:y', 'FAILED')"
    assert one(old, f"{insert} ON CONFLICT (id) DO NOTHING RETURNING id", id_) is None
    update = "ON CONFLICT (id) DO UPDATE SET operation = excluded.operation RETURNING status::text"
    assert one(old, f"{insert} {update}", id_) == "SUCCESS"
    assert category(old, id_) == "CACHED"


def test_what_an_application_that_knows_the_column_writes_is_left_alone(
    old: psycopg.Connection[Any],
) -> None:
    id_ = one(
        old,
        "INSERT INTO llama_logs (operation, status, category)"
        " VALUES ('elsewhere', 'SUCCESS', 'CORRECTED') RETURNING id",
    )
    assert category(old, id_) == "CORRECTED"
    for table in ("llama_logs", "enrichment_logs"):
        old.execute(f"UPDATE {table} SET retry_count = retry_count + 1 WHERE id = %s", [id_])
        assert category(old, id_) == "CORRECTED"
    old.execute(
        "UPDATE llama_logs SET category = 'FAILED', status = 'PENDING' WHERE id = %s", [id_]
    )
    assert category(old, id_) == "FAILED"
    old.execute("UPDATE llama_logs SET operation = 'cache:z' WHERE id = %s", [id_])
    assert category(old, id_) == "CACHED"


def test_whoever_could_use_the_table_can_use_the_view_and_nobody_else(served: Database) -> None:
    with served.connect() as connection:
        connection.execute("SET ROLE writer")
        id_ = one(connection, INSERT, "elsewhere", "FAILED")
        connection.execute("UPDATE enrichment_logs SET job_id = 'x' WHERE id = %s", [id_])
        connection.execute("SET ROLE clerk")
        connection.execute(
            "UPDATE enrichment_logs SET status = 'SUCCESS' WHERE operation = 'elsewhere'"
        )
        connection.execute(
            "INSERT INTO enrichment_logs (operation, status) VALUES ('cache:c', 'SUCCESS')"
        )
        for refused in (
            "SELECT job_id FROM enrichment_logs",
            "UPDATE enrichment_logs SET job_id = 'y'",
            "DELETE FROM enrichment_logs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
        connection.execute("SET ROLE stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM enrichment_logs")
        connection.execute("RESET ROLE")
        assert category(connection, id_) == "CREATED"
        assert one(connection, "SELECT count(*) FROM llama_logs WHERE operation = 'cache:c'") == 1


def test_policies_hold_through_the_view(sample_newest: Database) -> None:
    sample_newest.execute(
        *GRANTS,
        "ALTER TABLE enrichment_logs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY cached ON enrichment_logs TO writer USING (operation LIKE 'cache:%')",
    )
    with_view("online", sample_newest)
    with sample_newest.connect() as connection:
        connection.execute("SET ROLE writer")
        assert one(connection, "SELECT count(*) FROM enrichment_logs") == 1


@pytest.mark.soak
def test_policies_and_rights_on_columns_do_not_go_together(sample_newest: Database) -> None:
    sample_newest.execute(*GRANTS, "ALTER TABLE enrichment_logs ENABLE ROW LEVEL SECURITY")
    for more in ((), ("--old-name-view",)):
        code, content, _ = told("review", sample_newest, *more)
        warned = [one for one in content["findings"] if one["code"] == "view-not-for-columns"]
        assert code == 0 and [("clerk has rights" in one["message"]) for one in warned] == (
            [True] if more else []
        )


def test_a_table_that_is_only_renamed_is_served_too(newest: Cluster) -> None:
    spec = spec_of(ONLY_RENAME)
    for options, run in ((ATOMIC, migrate), (ONLINE, migrate_online)):
        database = newest.make()
        database.execute(*TICKETS)
        catalog = catalog_of(database, spec)
        plan = build_plan(spec, catalog, replace(options, old_name_view=True))
        run(database, spec, catalog=catalog, plan=plan)
        rows = database.value("SELECT count(*) FROM tickets")
        database.execute("INSERT INTO tickets DEFAULT VALUES")
        assert database.value(f"SELECT count(*) FROM {spec.table_after}") == rows + 1
        newest.drop(database)


@pytest.mark.soak
def test_a_rule_on_a_generated_column_is_refused(sample_newest: Database) -> None:
    """A trigger that fires before the row is stored cannot see it."""
    sample_newest.execute(
        "ALTER TABLE enrichment_logs DROP COLUMN operation",
        "ALTER TABLE enrichment_logs ADD operation text GENERATED ALWAYS AS ('x' || job_id) STORED",
    )
    for more in ((), ("--old-name-view",)):
        code, content, _ = told("review", sample_newest, "--mode", "atomic", *more)
        found = {finding["code"] for finding in content["findings"]}
        assert (code, "rule-on-generated-column" in found) == ((3, True) if more else (0, False))


# -- contract -----------------------------------------------------------------------------------

LEFT = (
    "SELECT count(*) FROM (SELECT relname FROM pg_class WHERE relname = 'enrichment_logs'"
    " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE '~runbook%'"
    " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'runbook%') AS left_over"
)
HASTE = ("--watch-s", "0", "--max-wait-ms", "1000")


def failed_checks(database: Database) -> list[str]:
    return [result.id for result in check(database).values() if not result.passed]


@pytest.mark.soak
def test_it_is_verified_with_the_view_and_without(served: Database) -> None:
    assert failed_checks(served) == []
    with served.connect() as connection:
        oid = one(connection, "SELECT 'llama_logs'::regclass::oid::bigint")
        code, content, bundle = told("contract", served, *HASTE)
        assert (code, content["outcome"]) == (0, "succeeded")
        assert oid == one(connection, "SELECT 'llama_logs'::regclass::oid::bigint")
    assert "public.enrichment_logs is removed" in content["message"]
    assert {entry["phase"] for entry in content["statements"]} == {"contract"}
    assert served.value(LEFT) == 0
    assert failed_checks(served) == []
    assert "enrichment_logs" in (bundle / "report.html").read_text("utf-8")
    code, content, _ = told("contract", served, *HASTE)
    assert (code, content["outcome"]) == (0, "already-applied")
    assert told("verify", served)[0] == 0


def test_bare_papermill_contracts(sample_newest: Database, tmp_path: Path) -> None:
    with_view("online", sample_newest)
    content = by_papermill("contract", sample_newest, tmp_path, "-p", "watch_s", "0")
    assert (content["outcome"], content["exit_code"]) == ("succeeded", 0)
    assert sample_newest.value(LEFT) == 0


def test_a_view_whose_name_a_session_spoke_last_is_not_removed(sample_newest: Database) -> None:
    with_view("online", sample_newest)
    before = sample_newest.value(LEFT)
    with sample_newest.connect(application_name="old application") as connection:
        connection.execute("SELECT count(*) FROM enrichment_logs")
        code, content, _ = told("contract", sample_newest, *HASTE)
        assert (code, content["outcome"]) == (3, "refused")
        assert "is still in use" in content["message"] and "old application" in content["message"]
        assert sample_newest.value(LEFT) == before
        connection.execute("SELECT count(*) FROM llama_logs WHERE operation = 'enrichment_logs_x'")
        assert told("contract", sample_newest, *HASTE)[0] == 0
    assert sample_newest.value(LEFT) == 0


def test_force_removes_a_view_that_was_used(sample_newest: Database) -> None:
    with_view("atomic", sample_newest)
    with sample_newest.connect() as connection:
        connection.execute("SELECT count(*) FROM enrichment_logs")
        assert told("contract", sample_newest, *HASTE, "--force")[0] == 0
    assert sample_newest.value(LEFT) == 0


@pytest.mark.soak
def test_a_view_that_another_depends_on_stays_by_force_too(sample_newest: Database) -> None:
    with_view("online", sample_newest)
    sample_newest.execute("CREATE VIEW weekly AS SELECT id FROM enrichment_logs")
    before = sample_newest.value(LEFT)
    code, content, _ = told("contract", sample_newest, *HASTE)
    assert (code, content["outcome"]) == (3, "refused") and "weekly" in content["message"]
    code, content, _ = told("contract", sample_newest, *HASTE, "--force")
    assert (code, content["outcome"]) == (5, "rolled-back")
    assert "weekly" in content["message"] and "the view serves as before" in content["remedy"]
    assert sample_newest.value(LEFT) == before
    sample_newest.execute("DROP VIEW weekly")
    assert told("contract", sample_newest, *HASTE)[0] == 0


def test_what_served_a_view_that_somebody_dropped_is_removed(served: Database) -> None:
    served.execute("DROP VIEW enrichment_logs")
    assert served.value(LEFT) == 3
    code, content, _ = told("contract", served, *HASTE)
    assert (code, content["outcome"]) == (0, "succeeded")
    assert "the view itself was gone already" in content["message"]
    assert not any("DROP VIEW" in one["sql"] for one in content["statements"])
    assert served.value(LEFT) == 0
    assert told("contract", served, *HASTE)[1]["outcome"] == "already-applied"


def test_a_trigger_that_somebody_dropped_is_no_hindrance(sample_newest: Database) -> None:
    with_view("online", sample_newest)
    sample_newest.execute('DROP TRIGGER "~runbook_insert_category" ON llama_logs')
    assert told("contract", sample_newest, *HASTE)[0] == 0
    assert sample_newest.value(LEFT) == 0


@pytest.mark.parametrize(
    "body",
    [
        "LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM Enrichment_LOGS); END $$",
        pytest.param(
            "LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM enrichment_logs; END",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_view_that_a_function_names_is_in_use(body: str, sample_newest: Database) -> None:
    with_view("online", sample_newest)
    sample_newest.execute(f"CREATE FUNCTION nightly() RETURNS bigint {body}")
    code, content, _ = told("contract", sample_newest, *HASTE)
    assert code == 3 and "function public.nightly() names it" in content["message"]
    sample_newest.execute("DROP FUNCTION nightly()")
    assert told("contract", sample_newest, *HASTE)[0] == 0


def test_a_name_is_found_however_it_is_written(empty_newest: Database) -> None:
    for view, statement, is_used in (
        ("tickets", "SELECT 1 AS tickets_, count(*) FROM TICKETS", True),
        ("tickets", "SELECT 1 AS tickets_", False),
        ("Old Tickets", 'SELECT count(*) FROM "Old Tickets"', True),
        ("Old Tickets", 'SELECT 1 AS "OLD TICKETS"', False),
        ('q"q', 'SELECT count(*) FROM "q""q"', True),
    ):
        quoted = view.replace('"', '""')
        empty_newest.execute(f'CREATE VIEW "{quoted}" AS SELECT 1 AS id')
        with empty_newest.connect() as application, empty_newest.connect() as connection:
            application.execute(statement.encode())
            assert bool(uses(connection, "public", view, watch_s=0)) == is_used, statement
        empty_newest.execute(f'DROP VIEW "{quoted}"')


def test_a_view_that_cannot_be_locked_stays(sample_newest: Database) -> None:
    with_view("online", sample_newest)
    before = sample_newest.value(LEFT)
    with sample_newest.connect(application_name="nightly report") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM llama_logs LIMIT 1")
        code, content, _ = told("contract", sample_newest, "--watch-s", "0", "--max-wait-ms", "300")
    assert (code, content["outcome"]) == (3, "refused")
    assert "nightly report" in content["message"] and sample_newest.value(LEFT) == before


@pytest.mark.parametrize("way", [migrate, pytest.param(migrate_online, marks=pytest.mark.soak)])
def test_a_run_that_left_no_view_is_refused(way: Way, sample_newest: Database) -> None:
    way(sample_newest)
    code, content, bundle = told("contract", sample_newest, *HASTE)
    assert (code, content["outcome"]) == (3, "refused")
    assert "left no view under the old name" in content["message"]
    assert manifest(bundle)["statements"] == []


def test_a_database_that_was_never_migrated_has_no_view(sample_newest: Database) -> None:
    code, content, _ = told("contract", sample_newest, *HASTE)
    assert (code, content["outcome"]) == (3, "refused")
