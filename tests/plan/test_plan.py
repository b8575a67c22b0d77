"""The plan: pure, the same everywhere, and as a script the same end state."""

import json
import os
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.catalog import reader
from runbook.catalog.surroundings import read_surroundings
from runbook.facts import Surroundings
from runbook.plan import Options, blockers, build_plan, review
from runbook.plan.model import sha256_of
from runbook.plan.script import script
from runbook.spec import load_spec, parse_spec
from runbook.vocabulary import Phase, Role
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, ONLINE, catalog_of, check, migrate, plan_of
from tests.run.test_atomic import unchanged

SPEC = load_spec("llamalog")

ONLY_RENAME = """
name = "only-rename"
table = "tickets"
[[operation]]
op = "rename_table"
to = "issues"
"""


def test_two_databases_alike_have_the_same_plan(cluster: Cluster) -> None:
    one, other = cluster.sample(), cluster.sample()
    try:
        other.execute("DELETE FROM enrichment_logs WHERE operation LIKE 'discogs:%'")
        assert plan_of(one).sha256 == plan_of(other).sha256
    finally:
        cluster.drop(one)
        cluster.drop(other)


def test_making_the_plan_again_gives_the_same_hash(sample_newest: Database) -> None:
    catalog = catalog_of(sample_newest)
    assert build_plan(SPEC, catalog, ATOMIC) == build_plan(SPEC, catalog, ATOMIC)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE enrichment_logs ADD COLUMN more integer",
        "ALTER TABLE enrichment_logs ALTER reason SET NOT NULL",
        "ALTER TABLE enrichment_logs ALTER retry_count SET DEFAULT 1",
        "CREATE INDEX more ON enrichment_logs (reason)",
        "ALTER TABLE enrichment_logs DROP CONSTRAINT enrichment_logs_user_id_fkey",
        "ALTER TABLE enrichment_logs ADD CHECK (retry_count >= 0)",
        "ALTER TABLE enrichment_logs ALTER reason TYPE varchar(1000)",
        "ALTER TYPE \"EnrichmentStatus\" ADD VALUE 'NEW'",
        'CREATE TYPE "LlamaLogCategory" AS ENUM'
        " ('CREATED', 'ENRICHED', 'CORRECTED', 'CACHED', 'FAILED')",
    ],
)
def test_a_fact_that_the_plan_rests_on_changes_its_hash(
    change: str, sample_newest: Database
) -> None:
    sample_newest.execute("UPDATE enrichment_logs SET reason = '' WHERE reason IS NULL")
    before = plan_of(sample_newest).sha256
    sample_newest.execute(change)
    assert plan_of(sample_newest).sha256 != before


@pytest.mark.parametrize("option", ["lock_timeout_ms", "statement_timeout_ms"])
def test_an_option_that_changes_a_statement_changes_the_hash(
    option: str, sample_newest: Database
) -> None:
    catalog = catalog_of(sample_newest)
    options: dict[str, Any] = {option: 12_345}
    changed = build_plan(SPEC, catalog, replace(ATOMIC, **options))
    assert changed.sha256 != build_plan(SPEC, catalog, ATOMIC).sha256


def test_reading_the_catalog_leaves_no_trace(
    sample: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def watched(connection: psycopg.Connection[Any], *rest: Any) -> Surroundings:
        # The last that is read in the snapshot, so that the locks of all of it are there to see.
        around = read_surroundings(connection, *rest)
        found.append(connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone())
        found.append(
            connection.execute(
                "SELECT DISTINCT mode FROM pg_locks"
                " WHERE pid = pg_backend_pid() AND locktype = 'relation'"
            ).fetchall()
        )
        return around

    monkeypatch.setattr(reader, "read_surroundings", watched)
    with unchanged(sample):
        assert catalog_of(sample).surroundings is not None
    assert found == [(None,), [("AccessShareLock",)]]


def test_the_script_brings_psql_to_the_same_end_state(cluster: Cluster, tmp_path: Path) -> None:
    by_run, by_psql = cluster.sample(), cluster.sample()
    try:
        catalog = catalog_of(by_psql)
        assert catalog.table
        text = script(SPEC, build_plan(SPEC, catalog, ATOMIC), catalog.table)
        psql(by_psql, text, tmp_path)
        migrate(by_run)
        assert schema_of(by_psql) == schema_of(by_run)
        assert rows_of(by_psql) == rows_of(by_run)
        assert all(result.passed for result in check(by_psql).values())
        entry = catalog_of(by_psql).applied
        assert entry and (entry.rows, entry.categories["ENRICHED"]) == (4052, 3770)
    finally:
        cluster.drop(by_run)
        cluster.drop(by_psql)


def test_a_script_whose_proof_fails_changes_nothing(sample: Database, tmp_path: Path) -> None:
    catalog = catalog_of(sample)
    assert catalog.table
    text = script(SPEC, build_plan(SPEC, catalog, ATOMIC), catalog.table)
    altered = text.replace(
        "-- Drop the default",
        "UPDATE public.llama_logs SET retry_count = 99 WHERE id::text < '1';\n--",
        1,
    )
    assert altered != text
    with pytest.raises(subprocess.CalledProcessError) as caught:
        psql(sample, altered, tmp_path)
    assert "the proof failed" in caught.value.stderr
    assert sample.value("SELECT to_regclass('enrichment_logs') IS NOT NULL")


def test_a_server_that_is_too_old_is_a_blocker_and_nothing_else_is_asked(
    sample_newest: Database,
) -> None:
    catalog = catalog_of(sample_newest)
    old = replace(catalog.server, version_number=140_010, server_version="14.10")
    findings = review(SPEC, replace(catalog, server=old, table=None), Options())
    assert [finding.code for finding in findings] == ["server-too-old"]
    assert "PostgreSQL 14.10" in findings[0].message


def test_a_strict_review_takes_what_the_spec_did_not_expect_for_a_blocker(
    sample_newest: Database,
) -> None:
    spec, catalog = load_spec("llamalog"), catalog_of(sample_newest)
    assert not blockers(review(spec, catalog, ATOMIC))
    (found,) = blockers(review(spec, catalog, ATOMIC, strict=True))
    assert found.code == "otherwise-exceeded" and "--strict" in found.remedy
    expected = spec.classify
    assert expected is not None
    enough = expected.model_copy(update={"expect_otherwise": 266})
    operations = tuple(enough if one is expected else one for one in spec.operations)
    generous = spec.model_copy(update={"operations": operations})
    assert not blockers(review(generous, catalog, ATOMIC, strict=True))


def test_the_way_back_is_part_of_the_plan_and_of_its_hash(sample_newest: Database) -> None:
    catalog = catalog_of(sample_newest)
    for options in (ATOMIC, ONLINE):
        plan = build_plan(SPEC, catalog, options)
        back = plan.of_phase(Phase.ROLLBACK)
        changes = [one.sql for one in back if one.role is Role.CHANGE]
        assert changes[0] == 'DROP INDEX "public"."llama_logs_category_createdAt_idx"'
        assert changes[-1] == 'ALTER TABLE "public"."llama_logs" RENAME TO "enrichment_logs"'
        assert back == plan.statements[-len(back) :]
        assert replace(plan, statements=plan.statements[: -len(back)]).sha256 != plan.sha256
        assert sha256_of(json.loads(json.dumps(asdict(plan)))) == plan.sha256


def test_what_other_commands_run_stands_in_the_script_as_a_comment(
    empty_newest: Database,
) -> None:
    """Whatever a name holds: a line break in it must not end the comment."""
    empty_newest.execute('CREATE TABLE "a\nb\rDROP TABLE x;" (state text)')
    text = ONLY_RENAME.replace('table = "tickets"', 'table = "a\\nb\\rDROP TABLE x;"')
    spec = parse_spec(text, file="test.toml")
    catalog = catalog_of(empty_newest, spec)
    assert catalog.table
    plan = build_plan(spec, catalog, replace(ATOMIC, old_name_view=True))
    printed = script(spec, plan, catalog.table)
    later = printed[printed.index("-- For later: what `runbook contract` runs") :]
    assert "-- The way back: what `runbook rollback` runs" in later
    assert all(line.startswith("--") for line in re.split(r"[\r\n]+", later.strip()))


def psql(database: Database, text: str, folder: Path) -> None:
    """Run a script as its head says."""
    path = folder / "plan.sql"
    path.write_text(text)
    program = database.binaries / "psql"
    subprocess.run(
        [program, "-X", "-v", "ON_ERROR_STOP=1", "-q", "-d", database.conninfo, "-f", path],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
    )


def schema_of(database: Database) -> Any:
    """Return the schema by names alone: OIDs differ between databases."""
    return database.value(
        "SELECT jsonb_build_object("
        "'columns', (SELECT jsonb_agg(to_jsonb(c) - 'table_catalog' - 'udt_catalog' ORDER BY c.*)"
        " FROM information_schema.columns c WHERE table_schema IN ('public', 'runbook')),"
        "'indexes', (SELECT jsonb_agg(indexdef ORDER BY indexdef) FROM pg_indexes"
        " WHERE schemaname IN ('public', 'runbook')),"
        "'constraints', (SELECT jsonb_agg(conrelid::regclass || conname || "
        " pg_get_constraintdef(oid) ORDER BY 1) FROM pg_constraint WHERE conrelid <> 0))"
    )


def rows_of(database: Database) -> Any:
    return database.value(
        "SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM llama_logs t"
    )
