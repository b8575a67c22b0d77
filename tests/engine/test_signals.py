"""Ctrl-C and SIGTERM: the query is cancelled, everything rolled back, the report closed."""

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.engine.running import (
    ACTIVE,
    SIGNALS,
    SLOW,
    ended,
    eventually,
    is_alive,
    kernel_of,
    start,
    the_manifest,
)
from tests.notebook.papermilling import bundles, notebook, read, with_cell
from tests.state import database_state


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("runbook", signal.SIGINT),
        pytest.param("runbook", signal.SIGTERM, marks=pytest.mark.soak),
        pytest.param("papermill", signal.SIGINT, marks=pytest.mark.soak),
        ("papermill", signal.SIGTERM),
        pytest.param("papermill", signal.SIGHUP, marks=pytest.mark.soak),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_cancels_the_query_rolls_back_and_closes_the_report(
    command: str, number: signal.Signals, sample_newest: Database, tmp_path: Path
) -> None:
    sample_newest.execute(*SLOW)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        process = start(command, sample_newest, tmp_path)
        eventually(lambda: sample_newest.value(ACTIVE))
        kernel = kernel_of(process)
        process.send_signal(number)
        code, said = ended(process)
        assert sample_newest.value(ACTIVE) == 0 and not is_alive(kernel)
        assert database_state(connection) == before
    assert code == 5, said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    content = the_manifest(tmp_path)
    assert (content["outcome"], content["exit_code"]) == ("rolled-back", 5)
    message = f"The run was interrupted by {SIGNALS[number]} while cell 'apply' ran."
    assert content["message"] == message and message in said
    assert "The transaction was rolled back" in content["remedy"]
    assert content["statements"] and content["plan"]["sha256"]
    assert_stopped_at(bundles(tmp_path)[0] / "report.ipynb", "apply")
    if command == "papermill":
        assert_stopped_at(tmp_path / "out.ipynb", "apply")


def assert_stopped_at(path: Path, cell_id: str) -> None:
    """Hold that a notebook says which cell failed, and that no later one ran."""
    output = read(path)
    assert output.metadata.papermill.exception is True
    ours = [cell for cell in output.cells if "papermill" in cell.metadata]
    place = next(n for n, cell in enumerate(ours) if cell.id == cell_id)
    assert {cell.metadata.papermill.status for cell in ours[:place]} <= {"completed"}
    failed = ours[place]
    assert (failed.metadata.papermill.status, failed.metadata.papermill.exception) == (
        "failed",
        True,
    )
    assert any(one.output_type == "error" and one.evalue for one in failed.outputs)
    assert {cell.metadata.papermill.status for cell in ours[place + 1 :]} == {"pending"}
    assert not any(cell.get("outputs") for cell in ours[place + 1 :])


def test_more_signals_while_the_report_is_closed_do_not_lose_it(
    sample_newest: Database, tmp_path: Path
) -> None:
    sample_newest.execute(*SLOW)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        process = start("runbook", sample_newest, tmp_path)
        eventually(lambda: sample_newest.value(ACTIVE))
        kernel = kernel_of(process)

        def is_dead() -> bool:
            process.send_signal(signal.SIGINT)
            return not is_alive(kernel)

        eventually(is_dead)
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
        assert database_state(connection) == before
    assert code == 5 and "Traceback" not in said, said
    content = the_manifest(tmp_path)
    assert (content["outcome"], content["exit_code"]) == ("rolled-back", 5)


def test_a_kernel_killed_under_way_is_told_and_leaves_no_query(
    sample_newest: Database, tmp_path: Path
) -> None:
    sample_newest.execute(*SLOW)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        process = start("papermill", sample_newest, tmp_path)
        eventually(lambda: sample_newest.value(ACTIVE))
        os.kill(kernel_of(process), signal.SIGKILL)
        code, said = ended(process)
        eventually(lambda: sample_newest.value(ACTIVE) == 0, seconds=10)
        assert database_state(connection) == before
    content = the_manifest(tmp_path)
    assert (code, content["outcome"], content["exit_code"]) == (1, "error", 1)
    assert content["message"].startswith("The kernel was killed by SIGKILL")
    assert content["message"].endswith("while cell 'apply' ran.") and content["message"] in said
    assert "the server rolls back" in content["remedy"]
    assert content["database"]["name"] == sample_newest.name and content["plan"]["sha256"]
    assert "Traceback" not in said
    assert_stopped_at(tmp_path / "out.ipynb", "apply")
    assert_stopped_at(bundles(tmp_path)[0] / "report.ipynb", "apply")


def test_an_interrupt_before_anything_was_changed_says_so(
    sample_newest: Database, tmp_path: Path
) -> None:
    waiting = with_cell(
        notebook("migrate"),
        "apply",
        "with run.open() as c:\n    c.execute('SELECT pg_sleep(60)')",
        tmp_path / "waiting.ipynb",
    )
    with sample_newest.connect() as connection:
        before = database_state(connection)
        process = start("papermill", sample_newest, tmp_path, waiting)
        eventually(lambda: sample_newest.value(ACTIVE))
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
        assert sample_newest.value(ACTIVE) == 0
        assert database_state(connection) == before
    content = the_manifest(tmp_path)
    assert (code, content["outcome"]) == (3, "refused")
    assert content["message"] == "The run was interrupted by SIGTERM while cell 'inserted' ran."
    assert content["remedy"].startswith("Nothing was changed") and "Traceback" not in said
