"""How a notebook's execution may end, and what record and notebook then say."""

import html
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import pytest
from nbformat import NotebookNode

from runbook.engine.archiving import Archived
from runbook.engine.client import Client
from runbook.engine.failure import RunFailed
from tests.conftest import Database
from tests.engine.running import eventually
from tests.notebook.papermilling import bundles, manifest, notebook, read, with_cell


def execute(source: Path, database: Database, **options: Any) -> tuple[RunFailed | None, Archived]:
    """Execute a notebook in this process; return its error and what was archived."""
    found: list[Archived] = []
    try:
        papermill.execute_notebook(
            source,
            "out.ipynb",
            parameters={"database_url": database.url},
            progress_bar=False,
            report=found.append,
            **options,
        )
    except RunFailed as error:
        return error, found[0]
    return None, found[0]


@dataclass(frozen=True)
class Case:
    """A cell put before another one, and what must be said of its end."""

    name: str
    code: str
    before: str
    message: str
    outcome: str
    exit_code: int
    remedy: str
    ename: str


READ = "Nothing was changed: the run had only read."
DONE = "The change is committed and proved"
KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"

CASES = [
    Case(
        "killed before the change",
        KILL,
        "apply",
        "The kernel was killed by SIGKILL, as the operating system does when memory runs out, "
        "while cell 'inserted' ran.",
        *("error", 1, READ, "KernelKilled"),
    ),
    Case(
        "killed after the change",
        KILL,
        "counts",
        "The kernel was killed by SIGKILL, as the operating system does when memory runs out, "
        "while cell 'inserted' ran.",
        *("check-failed", 4, DONE, "KernelKilled"),
    ),
    Case(
        "ended by itself",
        "import os\nos._exit(0)",
        "apply",
        "The kernel ended by itself with exit code 0 while cell 'inserted' ran.",
        *("error", 1, READ, "KernelKilled"),
    ),
    Case(
        "sys.exit",
        "import sys\nsys.exit(0)",
        "apply",
        "Cell 'inserted' ended the run by sys.exit(0).",
        *("error", 1, READ, "SystemExit"),
    ),
    Case(
        "sys.exit with a text, after the change",
        "import sys\nsys.exit('enough')",
        "counts",
        "Cell 'inserted' ended the run by sys.exit(enough).",
        *("check-failed", 4, DONE, "SystemExit"),
    ),
    Case(
        "an error of its own",
        "1 / 0",
        "apply",
        "Cell 'inserted' failed with ZeroDivisionError: division by zero.",
        *("error", 1, READ, "ZeroDivisionError"),
    ),
    Case(
        "an interrupt that no signal of ours sent",
        "raise KeyboardInterrupt",
        "apply",
        "The run was interrupted in cell 'inserted'.",
        *("refused", 3, READ, "KeyboardInterrupt"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_recorded_as_what_it_is(case: Case, sample_newest: Database, tmp_path: Path) -> None:
    source = with_cell(notebook("migrate"), case.before, case.code, tmp_path / "case.ipynb")
    error, archived = execute(source, sample_newest)
    (bundle,) = bundles(tmp_path)
    content = manifest(bundle)
    assert error is not None and error.exit_code == archived.exit_code == case.exit_code
    assert (content["message"], content["outcome"]) == (case.message, case.outcome)
    assert content["remedy"].startswith(case.remedy)
    assert content["exit_code"] == case.exit_code
    assert content["database"]["name"] == sample_newest.name and content["plan"]
    assert (sample_newest.value("SELECT to_regclass('llama_logs')") is None) == (
        case.remedy == READ
    )
    for path in (tmp_path / "out.ipynb", bundle / "report.ipynb"):
        assert_stopped(read(path), "inserted", case.ename)
    assert case.message in html.unescape((bundle / "report.html").read_text("utf-8"))


def assert_stopped(output: NotebookNode, cell_id: str, ename: str) -> None:
    """Hold that one cell failed, with an error in words, and that none after it ran."""
    assert output.metadata.papermill.exception is True
    cells = [cell for cell in output.cells if "papermill" in cell.metadata]
    states = {cell.id: cell.metadata.papermill.status for cell in cells}
    order = list(states)
    place = order.index(cell_id)
    assert [states[name] for name in order[:place]] == ["completed"] * place
    assert states[cell_id] == "failed"
    assert {states[name] for name in order[place + 1 :]} <= {"pending"}
    (failed,) = (cell for cell in cells if cell.id == cell_id)
    assert failed.metadata.papermill.exception is True
    (shown,) = (one for one in failed.outputs if one.output_type == "error")
    assert shown.ename == ename and shown.traceback


def test_a_notebook_that_publishes_no_result_has_failed(
    sample_newest: Database, tmp_path: Path
) -> None:
    import nbformat

    silent = read(notebook("migrate"))
    silent.cells = [cell for cell in silent.cells if cell.id not in ("checks", "checks-about")]
    nbformat.write(silent, tmp_path / "silent.ipynb")
    error, archived = execute(tmp_path / "silent.ipynb", sample_newest)
    assert error is not None and error.exit_code == 4
    assert archived.record.message == "Every cell ran, but none published the run's result."
    assert archived.record.remedy.startswith(DONE)
    assert_stopped(read(tmp_path / "out.ipynb"), "counts", "NoResult")


def test_a_cell_past_the_execution_timeout_is_interrupted_and_rolled_back(
    sample_newest: Database, tmp_path: Path
) -> None:
    with sample_newest.connect() as other, other.transaction():
        other.execute("LOCK TABLE enrichment_logs IN ROW EXCLUSIVE MODE")
        slow = with_cell(
            notebook("migrate"),
            "apply",
            "run.parameters = run.parameters.model_copy(update={'lock_timeout_ms': 60_000})\n"
            "from runbook.plan import build_plan\n"
            "run._plan = build_plan(run.spec, run.catalog, run.parameters.options)",
            tmp_path / "slow.ipynb",
        )
        error, archived = execute(slow, sample_newest, execution_timeout=3)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert sample_newest.value(waiting) == 0
    assert error is not None and error.exit_code == 5
    assert archived.record.message == (
        "Cell 'apply' ran longer than the execution timeout of 3 s and was interrupted."
    )
    assert "rolled back" in archived.record.remedy
    assert_stopped(read(tmp_path / "out.ipynb"), "apply", "RolledBack")


def interrupt_when(happened: Callable[[], Any]) -> threading.Thread:
    """Send this process a SIGTERM once something has happened."""

    def wait() -> None:
        eventually(happened)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_kernel_that_ignores_the_interrupt_is_killed_and_the_report_says_so(
    sample_newest: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "GRACE_S", 1.0)
    deaf = with_cell(
        notebook("migrate"),
        "apply",
        "import pathlib, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "pathlib.Path('deaf').touch()\ntime.sleep(60)",
        tmp_path / "deaf.ipynb",
    )
    former = signal.getsignal(signal.SIGTERM)
    thread = interrupt_when((tmp_path / "deaf").exists)
    error, archived = execute(deaf, sample_newest)
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is former
    assert error is not None and error.exit_code == 3
    assert archived.record.message == (
        "The run was interrupted by SIGTERM while cell 'inserted' ran. The kernel did not react "
        "for 1 s and was killed."
    )
    assert archived.record.remedy.startswith(READ)
    assert_stopped(read(tmp_path / "out.ipynb"), "inserted", "Interrupted")


def test_an_interrupt_that_a_cell_swallows_stops_before_the_next(
    sample_newest: Database, tmp_path: Path
) -> None:
    stubborn = with_cell(
        notebook("migrate"),
        "apply",
        "import pathlib, time\npathlib.Path('begun').touch()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass",
        tmp_path / "stubborn.ipynb",
    )
    thread = interrupt_when((tmp_path / "begun").exists)
    error, archived = execute(stubborn, sample_newest)
    thread.join()
    assert error is not None and error.exit_code == 3
    assert archived.record.message == "The run was interrupted by SIGTERM before cell 'apply'."
    assert archived.record.remedy.startswith(READ)
    assert_stopped(read(tmp_path / "out.ipynb"), "apply", "Interrupted")
    assert sample_newest.value("SELECT to_regclass('llama_logs')") is None


def test_a_kernel_that_does_not_start_is_told(sample_newest: Database, tmp_path: Path) -> None:
    error, archived = execute(notebook("review"), sample_newest, kernel_name="nowhere")
    assert error is not None and error.exit_code == 1
    assert archived.record.message.startswith("The kernel did not start: ")
    assert "nowhere" in archived.record.message
    assert archived.record.remedy.startswith(READ)
    output = read(tmp_path / "out.ipynb")
    assert output.metadata.papermill.exception is True
    assert "completed" not in {
        cell.metadata.papermill.status for cell in output.cells if "papermill" in cell.metadata
    }


def test_an_interrupt_while_the_kernel_starts_ends_it_at_once(
    sample_newest: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    spec = tmp_path / "jupyter" / "kernels" / "slow"
    spec.mkdir(parents=True)
    wait = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    kernel = {"argv": [sys.executable, "-c", wait], "display_name": "slow", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    thread = interrupt_when(begun.exists)
    started = time.monotonic()
    error, archived = execute(notebook("migrate"), sample_newest, kernel_name="slow")
    thread.join()
    assert time.monotonic() - started < 30
    assert error is not None and error.exit_code == 3
    message = "The run was interrupted by SIGTERM before its kernel had started."
    assert archived.record.message == message and archived.record.remedy.startswith(READ)
    output = read(tmp_path / "out.ipynb")
    assert "completed" not in {
        cell.metadata.papermill.status for cell in output.cells if "papermill" in cell.metadata
    }


def test_an_output_that_cannot_be_written_does_not_stop_a_migration(
    sample_newest: Database, tmp_path: Path
) -> None:
    (tmp_path / "out.ipynb").mkdir()
    with pytest.raises(OSError, match=r"out\.ipynb"):
        execute(notebook("migrate"), sample_newest)
    (bundle,) = bundles(tmp_path)
    assert manifest(bundle)["outcome"] == "succeeded"
