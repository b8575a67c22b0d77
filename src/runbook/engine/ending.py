"""How the execution of a notebook ended, and what its record must say of it.

The kernel publishes the record of a run. Where it could not (it was killed, it left, it did not
react), the engine publishes one for it: the last that is known of the run, with how it ended.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from runbook.engine.archiving import KEY, parameter, published_record
from runbook.errors import Outcome
from runbook.record import MIME, Record, Stage, after_commit, how_to_resume, now


class Cause(StrEnum):
    """Why a notebook's execution ended."""

    COMPLETED = "completed"
    """Every cell ran."""
    FAILED = "failed"
    """A cell raised an error."""
    EXITED = "exited"
    """A cell called `sys.exit`."""
    KILLED = "killed"
    """The kernel's process ended, by a signal or by itself."""
    TIMED_OUT = "timed out"
    """A cell ran longer than papermill's execution timeout."""
    INTERRUPTED = "interrupted"
    """A signal asked the run to end, or somebody interrupted the kernel."""
    NOT_STARTED = "not started"
    """The kernel did not start."""
    BROKEN = "broken"
    """The engine itself failed."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a notebook's execution ended."""

    cause: Cause
    place: int | None = None
    """The place of the cell that was running, or would have been next."""
    begun: bool = True
    """Whether that cell was begun."""
    sentence: str = ""
    """What happened, in a sentence."""
    progress: dict[str, Any] | None = None
    """What the kernel told last of the run: its stage and its record so far."""


_STATES = {
    Stage.READING: "Nothing was changed: the run had only read. Run it again.",
    Stage.CHANGING: "What was not committed, the server rolls back: the database is as it was, or "
    "changed as far as the ledger says. `runbook verify` tells which.",
}


_NAMES = {
    Cause.COMPLETED: "NoResult",
    Cause.KILLED: "KernelKilled",
    Cause.TIMED_OUT: "TimedOut",
    Cause.INTERRUPTED: "Interrupted",
    Cause.NOT_STARTED: "KernelNotStarted",
}
"""The names of errors that the engine adds to a cell."""


def named(cell: NotebookNode) -> str:
    """Return a cell in words."""
    return f"cell {cell.get('id', '?')!r}"


def failed(cell: NotebookNode, name: str, text: str) -> str:
    """Return in a sentence which error a cell ended with."""
    told = f"{name}: {text.splitlines()[0] if text else 'no message'}"
    return f"Cell {cell.get('id', '?')!r} failed with {told.rstrip('.')}."


def settle(nb: NotebookNode, ending: Ending) -> Record:
    """Return the record of the run, the notebook's published one saying how it ended.

    A record that the kernel published of the failure itself keeps its outcome; the engine knows
    better only what interrupted it. Without one the engine's is added to the cell that was running,
    and an error in words, so that no reader of the notebook takes the cell for a complete one.
    """
    record = published_record(nb)
    if record and ending.cause is Cause.COMPLETED:
        return record
    if record and record.exit_code:
        if ending.cause is Cause.FAILED:
            return record
        own = "" if record.message.startswith("The run was interrupted") else f" {record.message}"
        record.message = ending.sentence + own
    else:
        record = _record(nb, ending, record)
    _publish(nb, ending, record)
    return record


def _record(nb: NotebookNode, ending: Ending, published: Record | None) -> Record:
    """Return the record of a run that published none of its failure."""
    told = ending.progress or {}
    stage = Stage(told.get("stage", Stage.READING))
    if stage is Stage.READING and _may_change(nb, ending):
        stage = Stage.CHANGING  # the kernel's last word may have been lost with it
    if published:
        record = published
        message = f"{ending.sentence} Its result was published before: {record.message}"
    else:
        record = Record.model_validate(told["record"]) if told else _blank(nb)
        message = ending.sentence or "Every cell ran, but none published the run's result."
    if stage is Stage.CHANGED and not published:
        outcome = Outcome.CHECK_FAILED
    elif stage is Stage.RESUMABLE and not published:
        outcome = Outcome.STOPPED
    elif stage is Stage.READING and ending.cause is Cause.INTERRUPTED:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.ERROR
    record.end(outcome, message, _state(stage, record.step))
    return record


def _state(stage: Stage, step: str) -> str:
    """Return what is true of the database, and what to do."""
    if stage is Stage.RESUMABLE:
        return how_to_resume(step)
    return _STATES.get(stage) or after_commit(step)


def _may_change(nb: NotebookNode, ending: Ending) -> bool:
    """Return whether the cell that was running calls a method that changes the database."""
    if ending.place is None or not ending.begun:
        return False
    source = str(nb.cells[ending.place].source)
    return any(f".{method}(" in source for method in ("apply", "roll_back", "contract"))


def _blank(nb: NotebookNode) -> Record:
    """Return the record of a run of which the kernel told nothing."""
    return Record(
        run_id="",
        migration=Path(str(parameter(nb, "spec", "llamalog"))).stem,
        step=str(nb.metadata[KEY]["step"]),
        started_at=nb.metadata.papermill.get("start_time") or now(),
    )


def _publish(nb: NotebookNode, ending: Ending, record: Record) -> None:
    """Put the record into the notebook in place of what it published, else below the cell."""
    from runbook.notebook.publication import publication

    data = publication(record)
    for cell in reversed(nb.cells):
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                output["data"] = data
                return
    code = [place for place, cell in enumerate(nb.cells) if cell.cell_type == "code"]
    if not code:
        return
    cell = nb.cells[code[-1] if ending.place is None else ending.place]
    cell.metadata.papermill |= {"exception": True, "status": "failed"}
    nb.metadata.papermill["exception"] = True
    cell.outputs.append(new_output("display_data", data=data))
    if not any(output.output_type == "error" for output in cell.outputs):
        name = _NAMES.get(ending.cause, "RunFailed")
        lines = [f"{name}: {record.message}", record.remedy]
        cell.outputs.append(new_output("error", ename=name, evalue=record.message, traceback=lines))
