"""What speaks against a rollback: every kind, by name, all at once, and nothing is touched."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from runbook.errors import BlockedError, RefusedError
from runbook.plan import build_plan
from runbook.spec import load_spec
from tests.cases import CASES
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, catalog_of, findings_of, migrate, stop_online
from tests.operations.test_specs import ONLY_CLASSIFY, ONLY_RENAME, TICKETS, spec_of
from tests.run.test_atomic import unchanged
from tests.run.wayback.rolling_back import believed, refusals, roll_back

USES = {
    'CREATE VIEW early AS SELECT category FROM llama_logs': "view early",
    'CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM llama_logs GROUP BY category':
        "materialized view kept",
    'CREATE FUNCTION cached() RETURNS bigint LANGUAGE sql BEGIN ATOMIC'
    " SELECT count(*) FROM llama_logs WHERE category = 'CACHED'; END": "function cached()",
    'CREATE INDEX by_category ON llama_logs (category)': "index by_category",
    "CREATE INDEX partly ON llama_logs (id) WHERE category = 'FAILED'": "index partly",
    "ALTER TABLE llama_logs ADD CONSTRAINT sane CHECK (category <> 'FAILED' OR reason IS NULL)":
        "constraint sane on table llama_logs",
    'ALTER TABLE llama_logs ADD CONSTRAINT sole UNIQUE (id, category)':
        "constraint sole on table llama_logs",
    "CREATE POLICY shown ON llama_logs USING (category <> 'CACHED')":
        "policy shown on table llama_logs",
    'CREATE TRIGGER told AFTER UPDATE OF category ON llama_logs FOR EACH ROW'
    " EXECUTE FUNCTION nothing()": "trigger told on table llama_logs",
    'CREATE TRIGGER asked AFTER INSERT ON llama_logs FOR EACH ROW'
    " WHEN (NEW.category = 'FAILED') EXECUTE FUNCTION nothing()":
        "trigger asked on table llama_logs",
    "ALTER TABLE llama_logs ADD COLUMN bad boolean"
    " GENERATED ALWAYS AS (category = 'FAILED') STORED": "column bad of table llama_logs",
    'CREATE STATISTICS correlated (ndistinct) ON category, status FROM llama_logs':
        "statistics object correlated",
    'CREATE PUBLICATION told_column FOR TABLE llama_logs (id, category)':
        "publication of table llama_logs in publication told_column",
    'CREATE TABLE elsewhere (kind "LlamaLogCategory")': "column kind of table elsewhere",
    'CREATE TABLE several (kinds "LlamaLogCategory"[])': "column kinds of table several",
    'CREATE FUNCTION takes("LlamaLogCategory") RETURNS text LANGUAGE sql AS $$ SELECT $1::text $$':
        'function takes("LlamaLogCategory")',
    'CREATE DOMAIN narrow AS "LlamaLogCategory"': "type narrow",
}  # fmt: skip
"""What may be built on the column or its type, and how it is named."""


@pytest.fixture
def migrated(sample: Database) -> Iterator[Database]:
    """A migrated database, on which a refused rollback must leave no trace."""
    migrate(sample)
    sample.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
    )
    yield sample


def refused(database: Database, spec: Any = None) -> None:
    """Hold that the transaction itself refuses, too, and leaves everything as it is."""
    with unchanged(database), pytest.raises(BlockedError, match="come between"):
        roll_back(database, spec)


def test_everything_that_uses_the_column_or_its_type_is_named_at_once(migrated: Database) -> None:
    migrated.execute(*USES)
    found = refusals(migrated)
    assert {one.code for one in found} == {"in-use"}
    named = {one.object for one in found}
    # PostgreSQL itself names objects in the search path alone without their schema.
    assert {one.replace("public.", "") for one in named} == set(USES.values())
    refused(migrated)


@pytest.mark.soak
@pytest.mark.parametrize("use", USES, ids=USES.values())
def test_each_of_them_is_found_alone(use: str, sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        use,
    )
    assert [one.object.replace("public.", "") for one in refusals(sample_newest)] == [USES[use]]


def test_what_is_built_on_what_was_built_is_named_too(migrated: Database) -> None:
    migrated.execute(
        "CREATE VIEW early AS SELECT category FROM llama_logs",
        "CREATE VIEW later AS SELECT category FROM early",
        "CREATE MATERIALIZED VIEW last AS SELECT category FROM later",
    )
    assert [one.object for one in refusals(migrated)] == [
        "materialized view public.last", "view public.early", "view public.later",
    ]  # fmt: skip
    refused(migrated)


UNIQUE = ONLY_CLASSIFY + (
    '[[operation]]\nop = "create_index"\nname = "one_each"\ncolumns = ["id", "level"]\n'
    "unique = true\n"
)


def test_a_foreign_key_and_a_replica_identity_that_use_the_index(empty_newest: Database) -> None:
    spec, database = spec_of(UNIQUE), empty_newest
    database.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('low', 'high')")
    migrate(database, spec)
    database.execute(
        "CREATE TABLE notes (id integer, level severity,"
        " CONSTRAINT of FOREIGN KEY (id, level) REFERENCES tickets (id, level))",
        "ALTER TABLE tickets REPLICA IDENTITY USING INDEX one_each",
    )
    assert [one.object for one in refusals(database, spec)] == [
        "constraint of on table public.notes", "replica identity of table public.tickets",
    ]  # fmt: skip
    refused(database, spec)


@pytest.mark.parametrize(
    ("made", "code", "object_"),
    [
        ("CREATE TABLE enrichment_logs (x integer)", "name-taken", "public.enrichment_logs"),
        ("CREATE VIEW enrichment_logs AS SELECT 1 AS x", "name-taken", "public.enrichment_logs"),
        ("CREATE TYPE enrichment_logs AS ENUM ()", "name-taken", "public.enrichment_logs"),
        ("CREATE SEQUENCE enrichment_logs_pkey", "name-taken", "public.enrichment_logs_pkey"),
        (
            "CREATE TABLE enrichment_logs_sources_idx (x integer)",
            "name-taken",
            "public.enrichment_logs_sources_idx",
        ),
        (
            "ALTER TABLE llama_logs ADD CONSTRAINT enrichment_logs_user_id_fkey CHECK (true)",
            "name-taken",
            "public.enrichment_logs_user_id_fkey",
        ),
        (
            "ALTER TABLE llama_logs DROP CONSTRAINT llama_logs_user_id_fkey",
            "gone",
            "public.llama_logs_user_id_fkey",
        ),
        ("ALTER TABLE llama_logs RENAME COLUMN reason TO why", "gone", "public.reason"),
        ("ALTER TABLE llama_logs RENAME TO logs", "table-differs", "public.llama_logs"),
        ("DROP TABLE llama_logs", "table-differs", "public.llama_logs"),
        ("CREATE TABLE child () INHERITS (llama_logs)", "inheritance", "public.llama_logs"),
    ],
)
def test_what_is_not_as_the_run_left_it(
    made: str, code: str, object_: str, sample_newest: Database
) -> None:
    migrate(sample_newest)
    sample_newest.execute(made)
    before = sample_newest.value("SELECT count(*) FROM runbook.rollback")
    (found,) = refusals(sample_newest)
    assert (found.code, found.object) == (code, object_), found.message
    assert found.remedy.endswith(".") and before == 0
    if code != "table-differs" and "COLUMN" not in made:  # there no row can be counted
        refused(sample_newest)


def test_another_table_of_that_name(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "CREATE TABLE copy AS SELECT * FROM llama_logs",
        "DROP TABLE llama_logs",
        "ALTER TABLE copy RENAME TO llama_logs",
    )
    (found,) = refusals(sample_newest)
    assert found.code == "table-differs" and "is gone, and another one" in found.message


def test_a_view_of_somebody_else_under_the_old_name_is_not_dropped(
    sample_newest: Database,
) -> None:
    spec, catalog = load_spec("llamalog"), catalog_of(sample_newest)
    plan = build_plan(spec, catalog, replace(ATOMIC, old_name_view=True))
    migrate(sample_newest, catalog=catalog, plan=plan)
    sample_newest.execute(
        "DROP VIEW enrichment_logs", "CREATE VIEW enrichment_logs AS SELECT id FROM llama_logs"
    )
    (found,) = refusals(sample_newest)
    assert (found.code, found.object) == ("name-taken", "public.enrichment_logs")
    refused(sample_newest)


def test_what_is_built_on_the_view_and_what_serves_it(sample_newest: Database) -> None:
    spec, catalog = load_spec("llamalog"), catalog_of(sample_newest)
    plan = build_plan(spec, catalog, replace(ATOMIC, old_name_view=True))
    migrate(sample_newest, catalog=catalog, plan=plan)
    sample_newest.execute(
        "CREATE VIEW early AS SELECT operation FROM enrichment_logs",
        'CREATE TABLE other (category "LlamaLogCategory")',
        "CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW"
        " EXECUTE FUNCTION runbook_classify_enrichment_logs_category()",
    )
    assert [one.object for one in refusals(sample_newest)] == [
        "column category of table public.other", "trigger t on table public.other",
        "view public.early",
    ]  # fmt: skip
    refused(sample_newest)


def test_a_later_run_on_the_same_table_goes_first(empty_newest: Database) -> None:
    database, first = empty_newest, spec_of(ONLY_RENAME)
    later = spec_of(ONLY_CLASSIFY.replace('table = "tickets"', 'table = "issues"'))
    database.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('low', 'high')")
    migrate(database, first)
    run_id = stop_online(database, "index", later)
    assert [(one.code, one.object) for one in refusals(database, first)] == [("later-run", run_id)]
    database.execute("UPDATE runbook.online_run SET ended_at = now()")
    database.execute("ALTER TABLE issues DROP COLUMN level CASCADE",
                     "DROP FUNCTION runbook_classify_issues_level CASCADE")  # fmt: skip
    run_id = migrate(database, later).run_id
    assert [(one.code, one.object) for one in refusals(database, first)] == [("later-run", run_id)]
    refused(database, first)
    roll_back(database, later)
    roll_back(database, first)


def test_rights_that_are_missing(sample_newest: Database) -> None:
    migrate(sample_newest)
    role = f"clerk_{sample_newest.name}"
    sample_newest.execute(
        f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA runbook TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA runbook, public TO {role}",
    )  # fmt: skip
    as_clerk = replace(
        sample_newest, conninfo=sample_newest.conninfo.replace("user=postgres", f"user={role}")
    )
    found = refusals(as_clerk)
    assert {one.code for one in found} == {"privilege-missing"}
    lacking = " ".join(one.object for one in found)
    for right in ("ownership of public.llama_logs", 'ownership of type public."LlamaLogCategory"',
                  "CREATE on schema public", "runbook.rollback"):  # fmt: skip
        assert right in lacking.replace('"runbook"."rollback"', "runbook.rollback"), lacking


def test_a_plan_that_was_altered_in_the_ledger_is_not_run(sample_newest: Database) -> None:
    from runbook.catalog.ledger import read_recorded

    migrate(sample_newest)
    sample_newest.execute(
        "UPDATE runbook.ledger SET plan = replace(plan::text, 'DROP TYPE', 'DROP TABLE')::jsonb"
    )
    with sample_newest.connect() as connection:
        recorded = read_recorded(connection, "runbook", load_spec("llamalog"))
    assert recorded is not None
    with pytest.raises(RefusedError, match="altered there"):
        believed(recorded, load_spec("llamalog"))


def test_dependents_on_a_partition_are_found(newest: Cluster) -> None:
    case = CASES["partitioned"]
    database = case.make(newest)
    migrate(database, case.spec)
    database.execute(
        "CREATE INDEX of_one ON tickets_1 (state_2)",
        'CREATE VIEW of_two AS SELECT state_2 FROM "Tickets 2"',
    )
    assert [one.object for one in refusals(database, case.spec)] == [
        "index public.of_one",
        "view public.of_two",
    ]
    refused(database, case.spec)
    newest.drop(database)


def test_a_table_of_that_name_that_records_no_rollbacks_is_a_blocker(
    sample_newest: Database,
) -> None:
    sample_newest.execute("CREATE SCHEMA runbook", "CREATE TABLE runbook.rollback (x integer)")
    assert "ledger-foreign" in [one.code for one in findings_of(sample_newest)]


def test_who_may_not_read_which_runs_were_taken_back_lacks_a_right(
    sample_newest: Database,
) -> None:
    migrate(sample_newest)
    roll_back(sample_newest)
    role = f"reader_{sample_newest.name}"
    sample_newest.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA runbook TO {role}",
        f"GRANT SELECT, INSERT ON runbook.ledger TO {role}",
    )
    as_reader = replace(
        sample_newest, conninfo=sample_newest.conninfo.replace("user=postgres", f"user={role}")
    )
    lacking = [one.object for one in findings_of(as_reader) if one.code == "privilege-missing"]
    assert any("SELECT on rollback" in one for one in lacking), lacking
