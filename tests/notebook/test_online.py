"""Online steps by command and by bare papermill: outcome, exit code, what is archived."""

import json
import threading
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.vocabulary import Phase
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.embedded.other_processes import wait_for
from tests.migrating import check, migrate_online, stop_online
from tests.notebook.papermilling import bundles, manifest, notebook, papermill
from tests.notebook.test_outcomes import CRITERIA, KEYS, LABELS, told
from tests.run.online.test_online import at
from tests.state import logical_state

PHASES = ["prepare", "expand", "backfill", "index", "cutover"]

ROLLBACK_REFUSED = "There is no unfinished run on public.enrichment_logs"


def by_papermill(step: str, database: Database, folder: Path, *more: str) -> dict[str, Any]:
    """Run a step's notebook by bare papermill; return its manifest, with papermill's exit code."""
    before = bundles(folder)
    ended = papermill(notebook(step), *more, cwd=folder, env={"DATABASE_URL": database.url})
    (bundle,) = set(bundles(folder)) - set(before)
    content = manifest(bundle)
    assert ended.returncode == content["exit_code"], ended.stderr
    return content


def assert_migrated(content: dict[str, Any], database: Database) -> None:
    """Hold that the manifest of an online run says all that there is to say of it."""
    assert (content["outcome"], content["exit_code"]) == ("succeeded", 0)
    assert content.keys() >= KEYS | {"online"}
    assert content["plan"]["mode"] == "online"
    assert content["counts"] == {
        "before": {"total": 4052},
        "predicted": LABELS,
        "after": {"total": 4052, "categories": LABELS},
    }
    proof = content["proof"]
    assert proof["passed"] is True and proof["batches"]["rows"] == 282
    assert (proof["covers"], proof["rows_before"], proof["rows_after"]) == ("table", 4052, 4052)
    assert proof["fingerprint_before"] == proof["fingerprint_after"] != "0"
    assert [check["id"] for check in content["checks"]][: len(CRITERIA)] == CRITERIA
    assert all(check["passed"] for check in content["checks"])
    assert {"connect", "apply", "verify"} <= content["timings"].keys()
    assert_statements(content["statements"])
    online = content["online"]
    assert [one["phase"] for one in online["phases"]] == PHASES
    assert all(one["ms"] > 0 for one in online["phases"]) and online["resumed"] is None
    assert [(one["phase"], one["got"]) for one in online["lock_tries"]] == [
        ("expand", True), ("cutover", True),
    ]  # fmt: skip
    longest = max(one["waited_ms"] + one["held_ms"] for one in online["lock_tries"])
    assert content["locked_ms"] == pytest.approx(longest)
    assert sum(batch["rows"] for batch in online["batches"]) == 282
    recorded = "SELECT ARRAY[run_id::text, mode, rows::text, fingerprint] FROM runbook.ledger"
    assert database.value(recorded) == [
        *(content["run_id"], "online", "4052", proof["fingerprint_after"])
    ]


def assert_statements(statements: list[dict[str, Any]]) -> None:
    """Hold that each statement has its phase, lock and times."""
    keys = {"sql", "phase", "lock", "waited_ms", "held_ms", "rows"}
    assert all(one.keys() >= keys for one in statements)
    assert list(dict.fromkeys(one["phase"] for one in statements)) == PHASES[1:]
    for phase in ("expand", "cutover"):
        (lock,) = (
            one
            for one in statements
            if one["phase"] == phase and one["lock"] == "ACCESS EXCLUSIVE" and "LOCK" in one["sql"]
        )
        assert lock["held_ms"] > 0
    (batch,) = (one for one in statements if one["rows"] is not None)
    assert (batch["phase"], batch["rows"], batch["lock"]) == ("backfill", 282, "ROW EXCLUSIVE")
    (index,) = (one for one in statements if one["phase"] == "index")
    assert "CONCURRENTLY" in index["sql"] and index["lock"] == "SHARE UPDATE EXCLUSIVE"


def test_the_command_migrates_online(sample_newest: Database) -> None:
    code, content, bundle = told("migrate", sample_newest, "--mode", "online")
    assert code == 0
    assert_migrated(content, sample_newest)
    assert told("migrate", sample_newest)[1]["outcome"] == "already-applied"
    assert told("verify", sample_newest)[0] == 0
    plan = (bundle / "plan.sql").read_text("utf-8")
    squeezed = " ".join(plan.split())
    for one in content["statements"]:
        if one["phase"] != "backfill":
            assert " ".join(one["sql"].split()) in squeezed


class Application:
    """Writes by whatever name the table has, with its own labels once there are any, until it is
    told to end; each write in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database, self.ended, self.since = database, threading.Event(), 0
        self.thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Application":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _work(self) -> None:
        with self.database.connect() as connection:
            while not self.ended.wait(0.02):
                with suppress(psycopg.errors.UndefinedTable):
                    connection.execute(
                        "UPDATE llama_logs SET status = 'FAILED', operation = 'other'"
                        " WHERE id = (SELECT id FROM llama_logs WHERE operation <> 'other' LIMIT 1)"
                    )
                    connection.execute(
                        "INSERT INTO llama_logs (operation, status, category)"
                        " VALUES ('cache:x', 'SUCCESS', 'FAILED')"
                    )
                    self.since += 2


def test_an_application_that_writes_by_the_new_name_at_once_fails_no_run(
    sample_newest: Database,
) -> None:
    with Application(sample_newest) as application:
        code, content, _ = told("migrate", sample_newest, "--mode", "online")
        assert (code, content["outcome"]) == (0, "succeeded"), content["message"]
        assert all(check["passed"] for check in content["checks"])
        wait_for(lambda: application.since > 2 or not application.thread.is_alive())
        assert all(one.passed for one in check(sample_newest).values())


def test_bare_papermill_migrates_online(sample_newest: Database, tmp_path: Path) -> None:
    content = by_papermill("migrate", sample_newest, tmp_path, "-p", "mode", "online")
    assert_migrated(content, sample_newest)


@pytest.mark.soak
@pytest.mark.parametrize(("budget_ms", "mode"), [(1, "online"), (1000, "atomic")])
def test_auto_goes_online_above_the_lock_budget(
    budget_ms: int, mode: str, sample_newest: Database
) -> None:
    budget = ("--lock-budget-ms", str(budget_ms))
    code, review, bundle = told("review", sample_newest, *budget)
    assert (code, review["plan"]["mode"]) == (0, mode)
    page = (bundle / "report.html").read_text("utf-8")
    for shown in ("Mode", mode, "Estimated time", "Estimated lock"):
        assert shown in page
    phases = "expand → backfill → index → cutover" if mode == "online" else "atomic"
    assert f"{phases}</" in page
    approved = review["plan"]["sha256"]
    code, content, _ = told("migrate", sample_newest, *budget, "--approved-plan", approved)
    assert (code, content["plan"]["mode"]) == (0, mode)
    assert content["plan"]["approved"] == approved
    assert sample_newest.value("SELECT mode FROM runbook.ledger") == mode


def test_the_plan_is_printed_phase_by_phase(sample_newest: Database) -> None:
    given = ("plan", "--database-url", sample_newest.url, "--mode", "online")
    plan = json.loads(run(*given, "--format", "json").stdout)
    assert (plan["mode"], len(plan["sha256"])) == ("online", 64)
    phases = list(dict.fromkeys(one["phase"] for one in plan["statements"]))
    assert phases == ["expand", "backfill", "index", "cutover", "rollback"]
    assert plan["estimated_lock_ms"] > 0 and plan["estimated_ms"] > 0
    printed = run(*given, "--format", "sql").stdout
    assert f"-- plan {plan['sha256']}" in printed and "\nCOMMIT;" in printed
    for phase in phases:
        assert f"[{phase}, lock: " in printed
    view = json.loads(run(*given, "--format", "json", "--old-name-view").stdout)
    phases = list(dict.fromkeys(one["phase"] for one in view["statements"]))
    assert phases[-2:] == [Phase.CONTRACT, Phase.ROLLBACK]


@pytest.mark.soak
def test_the_plan_of_an_unfinished_run_is_the_one_that_it_began_with(
    sample_newest: Database,
) -> None:
    given = ("plan", "--database-url", sample_newest.url, "--format", "json")
    began = json.loads(run(*given, "--mode", "online").stdout)["sha256"]
    stop_online(sample_newest)
    ended = run(*given)
    assert json.loads(ended.stdout)["sha256"] == began and "unfinished run" in ended.stderr
    code, content, _ = told("review", sample_newest)
    assert (code, content["plan"]["sha256"]) == (0, began)
    code, content, _ = told("migrate", sample_newest, "--mode", "atomic")
    assert (code, content["outcome"]) == (3, "refused") and "unfinished" in content["message"]


def test_a_table_that_cannot_be_locked_is_refused_and_says_who_has_it(
    sample_newest: Database,
) -> None:
    before = logical_state(sample_newest)
    with sample_newest.connect(application_name="nightly report") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM enrichment_logs LIMIT 1")
        code, content, bundle = told(
            "migrate", sample_newest, "--mode", "online", "--max-wait-ms", "300"
        )
    assert (code, content["outcome"]) == (3, "refused")
    assert "nightly report" in content["message"]
    tries = content["online"]["lock_tries"]
    assert tries and not any(one["got"] for one in tries)
    assert {who["application"] for one in tries for who in one["blockers"]} == {"nightly report"}
    assert "nightly report" in (bundle / "report.html").read_text("utf-8")
    assert logical_state(sample_newest) == before


# -- rollback -----------------------------------------------------------------------------------


def assert_taken_back(content: dict[str, Any], run_id: str) -> None:
    assert (content["outcome"], content["step"]) == ("succeeded", "rollback")
    assert run_id in content["message"] and content["run_id"] != run_id
    (check,) = content["checks"]
    assert (check["id"], check["passed"]) == ("catalog-as-before", True)
    phases = {one["phase"] for one in content["statements"]}
    assert phases == {"expand", "rollback"} and content["plan"]["mode"] == "online"


@pytest.mark.parametrize("phase", ["backfill", pytest.param("cutover", marks=pytest.mark.soak)])
def test_the_command_takes_a_stopped_run_back(phase: str, sample_newest: Database) -> None:
    before = logical_state(sample_newest)
    run_id = stop_online(sample_newest, phase)
    code, content, _ = told("rollback", sample_newest)
    assert code == 0
    assert_taken_back(content, run_id)
    assert logical_state(sample_newest) == before
    code, content, _ = told("rollback", sample_newest)
    assert (code, content["outcome"]) == (3, "refused")
    assert content["message"].startswith(ROLLBACK_REFUSED)
    code, content, _ = told("migrate", sample_newest, "--mode", "online")
    assert code == 0 and content["run_id"] != run_id


@pytest.mark.soak
def test_bare_papermill_takes_a_stopped_run_back(sample_newest: Database, tmp_path: Path) -> None:
    before = logical_state(sample_newest)
    run_id = stop_online(sample_newest)
    assert_taken_back(by_papermill("rollback", sample_newest, tmp_path), run_id)
    assert logical_state(sample_newest) == before
    again = by_papermill("rollback", sample_newest, tmp_path)
    assert (again["exit_code"], again["outcome"]) == (3, "refused")


def test_a_run_at_work_is_not_taken_back(sample_newest: Database) -> None:
    def roll_back() -> None:
        code, content, _ = told("rollback", sample_newest)
        assert (code, content["outcome"]) == (3, "refused")
        assert "Another run is at work" in content["message"]
        assert content["remedy"].startswith("Nothing was changed")

    with at("index", "begins", roll_back) as tell:
        assert migrate_online(sample_newest, tell=tell).proof.passed


@pytest.mark.soak
def test_a_run_that_something_depends_on_is_not_taken_back(sample_newest: Database) -> None:
    run_id = stop_online(sample_newest)
    sample_newest.execute("CREATE VIEW early AS SELECT category FROM enrichment_logs")
    before = logical_state(sample_newest)
    code, content, _ = told("rollback", sample_newest)
    assert (code, content["outcome"]) == (5, "rolled-back")
    assert "early" in content["message"] and "Nothing was taken back" in content["remedy"]
    assert logical_state(sample_newest) == before
    sample_newest.execute("DROP VIEW early")
    code, content, _ = told("migrate", sample_newest)
    assert (code, content["run_id"]) == (0, run_id)


@pytest.mark.parametrize("name", ["llamalog", "other"])
def test_a_run_is_taken_back_by_its_recorded_plan(
    name: str, sample_newest: Database, tmp_path: Path
) -> None:
    """Whatever the spec says by now: but then somebody must vouch for the plan."""
    before = logical_state(sample_newest)
    run_id = stop_online(sample_newest)
    plan = sample_newest.value("SELECT plan_sha256 FROM runbook.online_run")
    text = (resources.files("runbook.specs") / "llamalog.toml").read_text("utf-8")
    changed = text.replace('name = "llamalog"', f'name = "{name}"').replace("cache:%", "cached:%")
    path = tmp_path / "changed.toml"
    path.write_text(changed, "utf-8")
    taking_back = ["rollback", "--database-url", sample_newest.url, "--spec", str(path), "--json"]
    refused = run(*taking_back)
    assert refused.returncode == 3, refused.stderr
    assert "the spec's text is another one" in refused.stdout or name == "other"
    assert "--approved-plan HASH" in json.loads(refused.stdout)["remedy"]
    ended = run(*taking_back, "--approved-plan", plan)
    content = json.loads(ended.stdout)
    assert (ended.returncode, content["outcome"]) == (0, "succeeded"), content["message"]
    assert run_id in content["message"]
    assert ("of migration 'llamalog'" in content["message"]) == (name == "other")
    assert logical_state(sample_newest) == before
