"""An online run that is interrupted or killed: stopped, exit code 6, archived, and resumed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.engine.running import (
    PHASE,
    SESSIONS,
    SIGNALS,
    ended,
    eventually,
    held_at,
    is_alive,
    kernel_of,
    start,
)
from tests.migrating import migrate, stop_online
from tests.notebook.papermilling import bundles, manifest, notebook, papermill, with_cell

RESUME = "Run again to resume, or `runbook rollback` to take it back"


def resumed(database: Database, folder: Path) -> dict[str, Any]:
    """Run the command again, without naming a mode; return the manifest of its bundle."""
    again = run("migrate", "--database-url", database.url, "--json", cwd=folder)
    assert again.returncode == 0, again.stderr
    return manifest(Path(json.loads(again.stdout)["bundle"]))


def assert_resumed(stopped: dict[str, Any], database: Database, folder: Path) -> None:
    """Hold that the next run goes on with the one that was stopped, and says so."""
    content = resumed(database, folder)
    assert (content["outcome"], content["run_id"]) == ("succeeded", stopped["run_id"])
    assert content["plan"]["sha256"] == stopped["plan"]["sha256"]
    before = content["online"]["resumed"]
    assert before["run_id"] == stopped["run_id"]
    assert (
        f"It resumed run {stopped['run_id']}, begun at {before['started_at']}"
        in (content["message"])
    )
    assert f"stopped at {before['phase']}" in content["message"]
    assert database.value("SELECT run_id::text FROM runbook.ledger") == stopped["run_id"]


@pytest.mark.parametrize(
    "phase",
    ["backfill", *(pytest.param(one, marks=pytest.mark.soak) for one in ("index", "cutover"))],
)
@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("papermill", signal.SIGTERM),
        pytest.param("runbook", signal.SIGINT, marks=pytest.mark.soak),
        pytest.param("runbook", signal.SIGTERM, marks=pytest.mark.soak),
        pytest.param("papermill", signal.SIGINT, marks=pytest.mark.soak),
        pytest.param("papermill", signal.SIGHUP, marks=pytest.mark.soak),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_stops_the_run_which_is_resumed(
    command: str,
    number: signal.Signals,
    phase: str,
    sample_newest: Database,
    tmp_path: Path,
) -> None:
    with held_at(phase, sample_newest) as is_there:
        process = start(command, sample_newest, tmp_path, mode="online")
        eventually(is_there)
        kernel = kernel_of(process)
        process.send_signal(number)
        code, said = ended(process)
        assert sample_newest.value(SESSIONS) == 0 and not is_alive(kernel)
    assert code == 6, said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    (bundle,) = bundles(tmp_path)
    content = manifest(bundle)
    assert bundle.name.endswith("-llamalog-migrate-stopped")
    assert (content["outcome"], content["exit_code"]) == ("stopped", 6)
    message = f"The run was interrupted by {SIGNALS[number]} while cell 'apply' ran."
    assert content["message"].startswith(message) and message in said
    assert "did not react" not in content["message"]
    assert RESUME in content["remedy"] and RESUME in said
    assert [one["phase"] for one in content["online"]["phases"]][-1] == phase
    assert sample_newest.value(PHASE) == phase
    assert_resumed(content, sample_newest, tmp_path)


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        ("runbook", "backfill"),
        pytest.param("papermill", "index", marks=pytest.mark.soak),
        pytest.param("runbook", "cutover", marks=pytest.mark.soak),
        pytest.param("papermill", "cutover", marks=pytest.mark.soak),
    ],
)
def test_a_kernel_that_is_killed_leaves_a_run_that_is_resumed(
    command: str, phase: str, sample_newest: Database, tmp_path: Path
) -> None:
    with held_at(phase, sample_newest) as is_there:
        process = start(command, sample_newest, tmp_path, mode="online")
        eventually(is_there)
        os.kill(kernel_of(process), signal.SIGKILL)
        code, said = ended(process)
    assert code == 6, said
    content = manifest(bundles(tmp_path)[0])
    assert (content["outcome"], content["exit_code"]) == ("stopped", 6)
    assert content["message"].startswith("The kernel was killed by SIGKILL")
    assert RESUME in content["remedy"]
    assert [one["phase"] for one in content["online"]["phases"]][-1] == phase
    assert any(one["phase"] == "expand" for one in content["statements"])
    eventually(lambda: sample_newest.value(SESSIONS) == 0)
    assert_resumed(content, sample_newest, tmp_path)


@pytest.mark.soak
def test_a_signal_before_anything_is_committed_leaves_the_database_as_it_was(
    sample_newest: Database, tmp_path: Path
) -> None:
    with held_at("expand", sample_newest) as is_there:
        process = start("runbook", sample_newest, tmp_path, mode="online")
        eventually(is_there)
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert code == 5, said
    content = manifest(bundles(tmp_path)[0])
    assert content["outcome"] == "rolled-back" and "is as it was" in content["remedy"]
    assert sample_newest.value("SELECT to_regnamespace('runbook') IS NULL")
    assert resumed(sample_newest, tmp_path)["outcome"] == "succeeded"


@pytest.mark.soak
def test_a_run_that_is_resumed_and_stopped_again_keeps_its_id(
    sample_newest: Database, tmp_path: Path
) -> None:
    ids = []
    for phase in ("index", "cutover"):
        folder = tmp_path / phase
        folder.mkdir()
        with held_at(phase, sample_newest) as is_there:
            process = start("papermill", sample_newest, folder, mode="online")
            eventually(is_there)
            process.send_signal(signal.SIGINT)
            code, said = ended(process)
        assert code == 6, said
        content = manifest(bundles(folder)[0])
        ids.append(content["run_id"])
    assert ids[0] == ids[1]
    assert content["online"]["resumed"]["phase"] == "index"
    assert_resumed(content, sample_newest, tmp_path)


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def struck(step: str, before: str, database: Database, folder: Path) -> dict[str, Any]:
    """Run a step whose kernel is killed before a cell; return the manifest of its bundle."""
    source = with_cell(notebook(step), before, KILL, folder / "struck.ipynb")
    known = set(bundles(folder))
    url = {"DATABASE_URL": database.url}
    given = ("-p", "watch_s", "0") if step == "contract" else ()
    code = papermill(source, *given, cwd=folder, env=url).returncode
    (bundle,) = set(bundles(folder)) - known
    content = manifest(bundle)
    assert content["exit_code"] == code
    return content


@pytest.mark.parametrize(
    ("leave", "phases"),
    [
        (stop_online, {"expand", "rollback"}),
        pytest.param(migrate, {"rollback"}, marks=pytest.mark.soak),
    ],
)
def test_what_is_said_of_a_rollback_that_is_killed_is_true(
    leave: Callable[[Database], object],
    phases: set[str],
    sample_newest: Database,
    tmp_path: Path,
) -> None:
    leave(sample_newest)
    content = struck("rollback", "rollback", sample_newest, tmp_path)
    assert content["outcome"] == "error" and "had only read" in content["remedy"]
    content = struck("rollback", "result", sample_newest, tmp_path)
    assert (content["outcome"], content["exit_code"]) == ("check-failed", 4)
    assert content["remedy"].startswith("The run is taken back")
    assert {one["phase"] for one in content["statements"]} == phases
    status = run("status", "--database-url", sample_newest.url, "--json")
    assert json.loads(status.stdout)["state"] == "not begun"


@pytest.mark.soak
def test_what_is_said_of_a_contraction_that_is_killed_is_true(
    sample_newest: Database, tmp_path: Path
) -> None:
    migrated = run("migrate", "--database-url", sample_newest.url, "--old-name-view", cwd=tmp_path)
    assert migrated.returncode == 0, migrated.stderr
    status = json.loads(run("status", "--database-url", sample_newest.url, "--json").stdout)
    assert status["has_view"] is True and "`runbook contract`" in status["next"]
    content = struck("contract", "contract", sample_newest, tmp_path)
    assert content["outcome"] == "error" and "had only read" in content["remedy"]
    content = struck("contract", "result", sample_newest, tmp_path)
    assert (content["outcome"], content["exit_code"]) == ("check-failed", 4)
    assert content["remedy"].startswith("The view is removed.")
    assert sample_newest.value("SELECT to_regclass('enrichment_logs') IS NULL")
