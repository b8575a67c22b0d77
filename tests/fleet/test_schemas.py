"""Fleets of schemas: many tenants in one database, those that are alike under one plan hash."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.notebook.papermilling import bundles, environment, manifest

SPEC = """
name = "events"
table = "events"

[[operation]]
op = "rename_table"
to = "happenings"

[[operation]]
op = "create_enum"
name = "kind"
labels = ["GOOD", "BAD"]

[[operation]]
op = "classify"
column = "kind"
type = "kind"
otherwise = "GOOD"
    [[operation.rule]]
    label = "BAD"
    when = { column = "code", like = "e%" }

[[operation]]
op = "create_index"
name = "happenings_kind_idx"
columns = ["kind"]
"""

FLEET = """
name = "schemas"
spec = "events.toml"

[rollout]
growth = 100

[[target]]
url = "env:APP_URL"
schemas = 'tenant\\_%'
"""


def prepare(database: Database, folder: Path, schemas: list[str]) -> None:
    """Write spec and file, and make the schemas with a table each."""
    (folder / "events.toml").write_text(SPEC, "utf-8")
    (folder / "FLEET.toml").write_text(FLEET, "utf-8")
    for schema in schemas:
        database.execute(
            f'CREATE SCHEMA "{schema}"',
            f'CREATE TABLE "{schema}".events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,'
            " code text NOT NULL, at timestamptz DEFAULT now())",
            f'CREATE INDEX events_code_idx ON "{schema}".events (code)',
            f'INSERT INTO "{schema}".events (code)'
            " SELECT CASE WHEN n % 10 = 0 THEN 'e' ELSE 'o' END || n FROM generate_series(1, 40) n",
        )


def runbook(folder: Path, database: Database, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a command with --json; return its exit code, the object and the rest."""
    ended = subprocess.run(
        [sys.executable, "-m", "runbook", *arguments, "--json"],
        cwd=folder,
        env=environment(APP_URL=database.url, DATABASE_URL=database.url),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or "{}"), ended.stderr


def test_tenants_that_are_alike_have_the_hash_of_the_specs_own_schema(
    empty_newest: Database, tmp_path: Path
) -> None:
    alike = [f"tenant_{n}" for n in range(6)]
    prepare(empty_newest, tmp_path, ["public_", *alike, "tenant_odd"])
    empty_newest.execute(
        "DROP SCHEMA public", "ALTER SCHEMA public_ RENAME TO public",
        "ALTER TABLE tenant_odd.events ADD COLUMN own text",
    )  # fmt: skip
    _, plan, said = runbook(tmp_path, empty_newest, "plan", "--spec", "events.toml")
    assert plan, said

    code, reviewed, said = runbook(tmp_path, empty_newest, "fleet", "FLEET.toml", "--review-only")
    assert code == 0, said
    assert reviewed["plan"]["sha256"] == plan["sha256"]
    assert "6 targets" in reviewed["message"] and "1 have another" in reviewed["message"]

    code, done, said = runbook(tmp_path, empty_newest, "fleet", "FLEET.toml")
    assert code == 6, said
    by_target = {one["target"]: one for one in done["fleet"]["targets"]}
    assert {name for name, one in by_target.items() if one["exit_code"] == 0} == {*alike}
    assert "own" in by_target["tenant_odd"]["message"]
    count = "SELECT count(*) FROM runbook.ledger"
    assert empty_newest.value(count) == 6
    kinds = "SELECT count(*) FROM tenant_3.happenings WHERE kind = 'BAD'"
    assert empty_newest.value(kinds) == 4
    own = [manifest(one) for one in bundles(tmp_path) if "-migrate-" in one.name]
    assert {one["plan"]["alike_sha256"] for one in own} == {plan["sha256"]}
    assert len({one["plan"]["sha256"] for one in own}) == 6

    apart = by_target["tenant_odd"]["remedy"].rpartition(" ")[2]
    arguments = ("fleet", "FLEET.toml", "--resume", "--approved-plan", apart)
    code, done, said = runbook(tmp_path, empty_newest, *arguments)
    assert code == 0, said
    assert empty_newest.value(count) == 7


def test_one_tenant_is_verified_and_taken_back_by_its_schema(
    sample_newest: Database, tmp_path: Path
) -> None:
    sample_newest.execute("ALTER SCHEMA public RENAME TO tenant_a", "CREATE SCHEMA public")
    spec = ("--spec", "llamalog@tenant_a")
    code, done, said = runbook(tmp_path, sample_newest, "migrate", *spec)
    assert code == 0, said
    assert len(done["checks"]) == 13 and all(one["passed"] for one in done["checks"])
    assert sample_newest.value("SELECT count(*) FROM tenant_a.llama_logs") == 4052
    for command in ("verify", "rollback"):
        code, _, said = runbook(tmp_path, sample_newest, command, *spec)
        assert code == 0, said
    assert sample_newest.value("SELECT count(*) FROM tenant_a.enrichment_logs") == 4052


@pytest.mark.soak
def test_schemas_whose_names_need_quotes_are_found_and_migrated(
    empty_newest: Database, tmp_path: Path
) -> None:
    prepare(empty_newest, tmp_path, ["tenant_A-1", "tenant_B 2"])
    code, done, said = runbook(tmp_path, empty_newest, "fleet", "FLEET.toml")
    assert code == 0, said
    assert [one["target"] for one in done["fleet"]["targets"]] == ["tenant_A-1", "tenant_B 2"]
