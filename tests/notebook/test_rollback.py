"""Rollbacks of applied runs by command and by bare papermill: what is said and archived."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_refusals import run
from tests.cli.test_status import status
from tests.conftest import Database
from tests.migrating import migrate, migrate_online
from tests.notebook.test_online import by_papermill
from tests.notebook.test_outcomes import told
from tests.run.test_atomic import unchanged
from tests.run.wayback.test_undo import BY_HAND, SAME
from tests.state import logical_state


def assert_taken_back(content: dict[str, Any], run_id: str) -> None:
    """Hold that a manifest says all that there is to say of a rollback."""
    assert (content["outcome"], content["exit_code"]) == ("succeeded", 0), content["message"]
    assert f"Run {run_id} is taken back" in content["message"]
    (check,) = content["checks"]
    assert (check["id"], check["passed"]) == ("catalog-as-before", True)
    counts = content["counts"]
    assert (counts["before"]["total"], counts["after"]["total"]) == (4052, 4052)
    assert content["proof"]["passed"] is True and content["locked_ms"] > 0
    assert {one["phase"] for one in content["statements"]} == {"rollback"}
    roles = [one["role"] for one in content["statements"]]
    assert roles[0] == "tally-before" and roles[-1] == "tally-after" and "lock" in roles
    assert [one["phase"] for one in content["online"]["phases"]] == ["rollback"]


@pytest.mark.parametrize("way", [migrate, pytest.param(migrate_online, marks=pytest.mark.soak)])
def test_the_command_takes_an_applied_run_back(way: Any, sample_newest: Database) -> None:
    before = logical_state(sample_newest)
    run_id = way(sample_newest).run_id
    assert "`runbook rollback` takes the run back" in status(sample_newest)[0]["next"]
    code, content, bundle = told("rollback", sample_newest)
    assert code == 0
    assert_taken_back(content, run_id)
    assert (SAME in content["message"]) == (way is migrate)
    page = (bundle / "report.html").read_text("utf-8")
    assert SAME in page or "altered no row" in page
    assert logical_state(sample_newest) == before
    answered, said = status(sample_newest)
    assert (answered["state"], answered["taken_back"]["run_id"]) == ("not begun", run_id)
    assert f"{answered['taken_back']['at']} by postgres" in said
    code, again, _ = told("rollback", sample_newest)
    assert (code, again["outcome"]) == (3, "refused")
    assert f"run {run_id} was taken back at" in again["message"]
    way(sample_newest)
    assert status(sample_newest)[0]["taken_back"] is None


def test_bare_papermill_takes_an_applied_run_back(sample_newest: Database, tmp_path: Path) -> None:
    run_id = migrate(sample_newest).run_id
    assert_taken_back(by_papermill("rollback", sample_newest, tmp_path), run_id)


def test_all_that_speaks_against_it_is_told_at_once(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        BY_HAND,
        "CREATE VIEW early AS SELECT category FROM llama_logs",
        "CREATE INDEX late ON llama_logs (category)",
        "CREATE TABLE enrichment_logs (x integer)",
    )
    with unchanged(sample_newest):
        code, content, bundle = told("rollback", sample_newest)
    assert (code, content["outcome"]) == (3, "refused")
    assert [(one["level"], one["code"]) for one in content["findings"]] == [
        ("blocker", "name-taken"),
        ("blocker", "in-use"),
        ("blocker", "in-use"),
        ("blocker", "categories-set-by-hand"),
    ]
    assert "It is the first of 4 blockers" in content["remedy"]
    page = (bundle / "report.html").read_text("utf-8")
    for shown in (
        "view public.early", "index public.late", "admin_correction", "CORRECTED", "by the rules"
    ):  # fmt: skip
        assert shown in page
    assert content["statements"] == []


def test_labels_set_by_hand_are_lost_on_demand_alone(sample_newest: Database) -> None:
    before = logical_state(sample_newest)
    migrate(sample_newest)
    sample_newest.execute(BY_HAND)
    code, content, _ = told("rollback", sample_newest)
    assert (code, content["findings"][0]["code"]) == (3, "categories-set-by-hand")
    assert "15 rows" in content["message"] and "--discard-categories" in content["remedy"]
    code, content, _ = told("rollback", sample_newest, "--discard-categories")
    assert code == 0 and "15 labels that the rules do not give are lost." in content["message"]
    assert [one["level"] for one in content["findings"]] == ["warning"]
    assert logical_state(sample_newest) == before


def test_rules_that_cannot_be_asked_any_more_are_told(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute("ALTER TYPE \"LlamaLogCategory\" RENAME VALUE 'FAILED' TO 'BROKEN'")
    with unchanged(sample_newest):
        code, content, _ = told("rollback", sample_newest)
    assert (code, [one["code"] for one in content["findings"]]) == (3, ["rules-fail"])


def test_what_is_altered_in_the_catalog_fails_the_check(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "ALTER TABLE llama_logs ALTER retry_count SET DEFAULT 1",
        "ALTER TABLE llama_logs ADD COLUMN more integer",
    )
    code, content, _ = told("rollback", sample_newest)
    assert (code, content["outcome"]) == (4, "check-failed")
    assert "retry_count" in content["message"] and "more" not in content["checks"][0]["observed"]
    assert sample_newest.value("SELECT to_regclass('enrichment_logs') IS NOT NULL")


def test_a_database_without_any_run(sample_newest: Database) -> None:
    ended = run("rollback", "--database-url", sample_newest.url, "--json")
    content = json.loads(ended.stdout)
    assert (ended.returncode, content["outcome"]) == (3, "refused")
    assert "no run of migration 'llamalog' is recorded" in content["message"]
