"""Every way in which a run can end: exit code, bundle, and the database afterwards."""

import json
import re
from pathlib import Path
from typing import Any

from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.migrating import migrate
from tests.notebook.papermilling import manifest, read
from tests.report.page_reader import first_text
from tests.state import database_state

LABELS = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1, "FAILED": 0}
CRITERIA = ["SCHEMA-01", "SCHEMA-02", "SCHEMA-03", "SCHEMA-04", "SCHEMA-05", "distribution"]

KEYS = {
    "schema", "run_id", "migration", "step", "outcome", "exit_code", "started_at", "finished_at",
    "operator", "host", "versions", "database", "parameters", "plan", "statements", "counts",
    "proof", "checks", "findings", "timings", "files", "previous_manifest_sha256", "signature",
}  # fmt: skip
"""What section 4 of the design promises; more may stand there."""

MADE_UPDATES = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN NEW.retry_count := NEW.retry_count + 1; RETURN NEW; END$$",
    "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs FOR EACH ROW EXECUTE FUNCTION touch()",
)


def told(step: str, database: Database, *more: str) -> tuple[int, dict[str, Any], Path]:
    """Run a step's command; return its exit code, its JSON object and its bundle."""
    ended = run(step, "--database-url", database.url, "--json", *more)
    said = json.loads(ended.stdout)
    assert said["exit_code"] == ended.returncode
    assert "Traceback" not in ended.stderr
    bundle = Path(said["bundle"])
    assert bundle.name.endswith(f"-llamalog-{step}-{said['outcome']}")
    content = manifest(bundle)
    assert {key: content[key] for key in said if key != "bundle"} == {
        key: said[key] for key in said if key != "bundle"
    }
    for sentence in (
        first_text((bundle / "report.html").read_text("utf-8")),
        first_text(read(bundle / "report.ipynb").cells[0].source),
    ):
        words = str(said["outcome"]).replace("-", " ").capitalize()
        assert sentence.startswith(f"{words}: {said['message']}")
    return ended.returncode, content, bundle


def planned(database: Database) -> str:
    """Return the hash that `runbook plan` gives."""
    ended = run("plan", "--database-url", database.url, "--json")
    assert ended.returncode == 0, ended.stderr
    return str(json.loads(ended.stdout)["sha256"])


def test_a_review_tells_the_hash_to_approve_and_changes_nothing(sample_newest: Database) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        code, content, _ = told("review", sample_newest)
        assert database_state(connection) == before
    assert (code, content["outcome"], content["step"]) == (0, "succeeded", "review")
    approved = planned(sample_newest)
    assert (
        content["plan"].items() >= {"sha256": approved, "mode": "atomic", "approved": None}.items()
    )
    assert content["plan"]["estimated_ms"] >= content["plan"]["estimated_lock_ms"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", approved) and approved in content["message"]
    assert content["counts"] == {"before": {"total": 4052}, "predicted": LABELS, "after": None}
    assert (content["statements"], content["checks"], content["proof"]) == ([], [], None)
    assert {"otherwise-exceeded", "rule-takes-nothing"} <= {
        finding["code"] for finding in content["findings"]
    }
    assert content["previous_manifest_sha256"] is None


def test_what_was_approved_is_what_runs_and_is_archived(sample_outermost: Database) -> None:
    server_version, system_identifier = sample_outermost.value(
        "SELECT ARRAY[current_setting('server_version'), system_identifier::text]"
        " FROM pg_control_system()"
    )
    approved = planned(sample_outermost)
    code, content, bundle = told(
        "migrate", sample_outermost, "--approved-plan", approved, "--profile"
    )
    assert (code, content["outcome"], content["step"]) == (0, "succeeded", "migrate")
    assert content.keys() >= KEYS
    named = {"sha256": approved, "mode": "atomic", "approved": approved}
    assert content["plan"].items() >= named.items()
    assert "estimated" in (bundle / "report.html").read_text()
    assert content["database"].keys() == {
        *("server_version", "name", "user", "host", "port", "system_identifier", "is_superuser"),
    }
    assert content["database"]["server_version"].split()[0] == server_version.split()[0]
    assert content["database"]["system_identifier"] == system_identifier
    assert (content["database"]["name"], content["database"]["user"]) == (
        sample_outermost.name,
        "postgres",
    )
    assert content["database"]["is_superuser"] is True
    assert content["counts"] == {
        "before": {"total": 4052},
        "predicted": LABELS,
        "after": {"total": 4052, "categories": LABELS},
    }
    proof = content["proof"]
    assert proof["passed"] is True and proof["algorithm"]
    assert (proof["rows_before"], proof["rows_after"]) == (4052, 4052)
    assert proof["fingerprint_before"] == proof["fingerprint_after"] != ""
    assert_statements(content["statements"], (bundle / "plan.sql").read_text("utf-8"))
    assert_checks(content["checks"])
    assert content["started_at"] < content["finished_at"]
    profiled = {f"profile: {one}" for one in ("kernel: start", "report: HTML")}
    assert {"connect", "apply", "verify"} | profiled <= content["timings"].keys()
    assert all(content["timings"][step] > 0 for step in profiled)


def assert_statements(statements: list[dict[str, Any]], plan_sql: str) -> None:
    """Hold that each statement has its SQL, lock and times, and is in the plan that is archived."""
    assert all(
        one.keys() >= {"sql", "phase", "lock", "waited_ms", "held_ms", "rows"} for one in statements
    )
    locking = [one for one in statements if one["lock"] == "ACCESS EXCLUSIVE"]
    assert locking and all(one["waited_ms"] is None or one["waited_ms"] >= 0 for one in statements)
    assert any(one["held_ms"] is not None and one["held_ms"] > 0 for one in locking)
    changing = [one for one in statements if one["sql"].startswith(("ALTER", "UPDATE", "CREATE"))]
    assert len(changing) > 15
    squeezed = " ".join(plan_sql.split())
    assert [one["sql"] for one in changing if " ".join(one["sql"].split()) not in squeezed] == []
    updated = sum(one["rows"] for one in changing if one["sql"].startswith("UPDATE"))
    assert updated == 4052 - max(LABELS.values())


def assert_checks(checks: list[dict[str, Any]]) -> None:
    """Hold that every check passed, the acceptance criteria first, and has its SQL and answer."""
    assert [check["id"] for check in checks][: len(CRITERIA)] == CRITERIA
    assert len(checks) >= 12 and len({check["id"] for check in checks}) == len(checks)
    for check in checks:
        assert check.keys() == {"id", "title", "sql", "expected", "observed", "passed"}
        assert check["passed"] is True and check["expected"] == check["observed"], check["id"]
        assert check["title"] and check["sql"]


def test_a_check_that_fails_later_is_told_first(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute("ALTER TABLE llama_logs ALTER category DROP NOT NULL")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        code, content, _ = told("verify", sample_newest)
        assert database_state(connection) == before
    failed = [check for check in content["checks"] if not check["passed"]]
    assert (code, content["outcome"]) == (4, "check-failed")
    assert failed and all(check["expected"] != check["observed"] for check in failed)
    assert content["message"].startswith(f"{len(failed)} of {len(content['checks'])} checks failed")
    assert all(check["id"] in content["message"] for check in failed)


def test_a_label_altered_since_is_counted_as_it_is_and_reported(sample_newest: Database) -> None:
    migrate(sample_newest)
    assert told("verify", sample_newest, "--strict")[0] == 0
    sample_newest.execute(
        "UPDATE llama_logs SET category = 'FAILED'"
        " WHERE id = (SELECT id FROM llama_logs WHERE category = 'CACHED')"
    )
    code, content, _ = told("verify", sample_newest, "--strict")
    assert (code, content["outcome"]) == (4, "check-failed")
    assert content["message"].startswith("As migrated, and changed since: 1 row has another label")
    assert all(check["passed"] for check in content["checks"])
    # The same of whoever migrates again.
    code, content, _ = told("migrate", sample_newest)
    assert (code, content["outcome"]) == (0, "already-applied")
    assert "1 row has another label" in content["message"]
    code, content, _ = told("verify", sample_newest)
    assert (code, content["outcome"]) == (0, "succeeded")
    assert "1 row has another label than the rules give (id = " in content["message"]
    (finding,) = content["findings"]
    assert (finding["level"], finding["code"]) == ("note", "changed-since")
    assert content["counts"]["predicted"] == LABELS
    assert content["counts"]["after"] == {
        "total": 4052,
        "categories": LABELS | {"CACHED": 0, "FAILED": 1},
    }


def test_altered_data_is_noticed_and_everything_rolled_back(sample_newest: Database) -> None:
    sample_newest.execute(*MADE_UPDATES)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        code, content, _ = told("migrate", sample_newest)
        assert database_state(connection) == before
    assert (code, content["outcome"]) == (5, "rolled-back")
    assert content["plan"]["sha256"] and content["database"]["name"] == sample_newest.name
    assert content["counts"]["before"] == {"total": 4052} and content["counts"]["after"] is None


def test_a_database_that_was_never_migrated_is_not_verified(sample_newest: Database) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        code, content, _ = told("verify", sample_newest)
        assert database_state(connection) == before
    assert (code, content["outcome"], content["checks"]) == (3, "refused", [])
    assert "No run of llamalog is recorded" in content["message"]
