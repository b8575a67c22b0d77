"""What every notebook has: parameters, a record, a place to show things, and a way to end."""

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import psycopg

from runbook.errors import ChecksFailed, Outcome, RefusedError, RunbookError, Stopped
from runbook.notebook.host import Line, host
from runbook.notebook.publication import publication
from runbook.parameters import Parameters
from runbook.record import PROGRESS, Record, Stage, after_commit, how_to_resume, now
from runbook.report import html
from runbook.secrets import Scrubber, scrubber_for

P = TypeVar("P", bound=Parameters)


class Notebook(Generic[P]):
    """One notebook's run."""

    step: ClassVar[str]
    parameters_type: ClassVar[type[Parameters]]
    stage: Stage = Stage.CHANGING
    """What the run may have done to the database so far; a notebook that only reads says so."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        """Take the parameters from the notebook's namespace.

        Everything that a parameters cell may define is a parameter, so a misspelt one is found
        here. Raises `UsageError` for an unknown or wrong parameter, and for what `prepare` finds.
        """
        self._host = host()
        self._progress: Line | None = None
        self._scrubber = _scrubber(namespace)
        self._host.hide(self._scrubber)
        self.run_id = uuid.uuid4()
        self.record = Record(
            run_id=str(self.run_id), migration="", step=self.step, started_at=now()
        )
        with self._timed("parameters"):
            given = self.parameters_type.of(_given(namespace))
            self.parameters: P = given  # type: ignore[assignment]
            self.prepare()
            self.record.parameters = self.shown_parameters()

    def prepare(self) -> None:
        """Take what the parameters name. Raises `UsageError` where it is not there."""

    def shown_parameters(self) -> dict[str, Any]:
        """Return the parameters as they may be shown."""
        return self.parameters.model_dump()

    # -- showing -------------------------------------------------------------------------------

    def show(self, *things: object) -> None:
        """Display things below the cell."""
        self._host.show(*things)

    def tell(self, text: str, share: float | None = None) -> None:
        """Say what runs now, in one line that changes: it may take its time. With a `share` from 0
        to 1 it is a bar."""
        line = html.line(text) if share is None else html.progress(text, share)
        if self._progress is None:
            self._progress = self._host.begin_line(line)
        else:
            self._progress.update(line)

    # -- ending --------------------------------------------------------------------------------

    def finish(self, outcome: Outcome, message: str, remedy: str = "") -> None:
        """End the run: show how, publish the record, and raise if it did not succeed."""
        self.record.end(outcome, message, remedy)
        self.publish()
        self.close()

    def close(self) -> None:
        """Let go of what the run holds open, however it ended."""

    def publish(self) -> None:
        """Publish the record as data of the cell, with a banner for the reader."""
        self._host.show_data(self._scrubber.tree(publication(self.record)))
        if not self._host.archives:
            self.show(
                html.line("Run by hand: not archived. `runbook` and papermill archive a bundle.")
            )

    def tell_progress(self) -> None:
        """Tell the engine how far the run is; it keeps the last word of a kernel that is killed."""
        if self._host.wants_progress:
            told = {"stage": self.stage, "record": self.record.model_dump(mode="json")}
            self._host.show_data({PROGRESS: self._scrubber.tree(told)})

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Time a step, tell the progress after it, and publish the record if it fails."""
        started = time.monotonic()
        try:
            yield
        except (psycopg.Error, KeyboardInterrupt) as error:
            if isinstance(error, psycopg.Error):
                failure = self.database_failure(error)
            else:
                failure = self.interrupted()
            self._fail(failure)
            raise failure from error
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self.record.timings[name] = round(time.monotonic() - started, 4)
        self.tell_progress()

    def database_failure(self, error: psycopg.Error) -> RunbookError:
        """Return what an error means that the server sent while it was only being read."""
        return RefusedError(said(error), "Nothing was changed. Look at the server, then run again.")

    def interrupted(self) -> RunbookError:
        """Return what an interrupt means that no transaction was there to take back for."""
        message = "The run was interrupted."
        if self.stage is Stage.READING:
            return RefusedError(
                message, "Nothing was changed: the run had only read. Run it again."
            )
        if self.stage is Stage.RESUMABLE:
            return Stopped(message, how_to_resume(self.step))
        if self.stage is Stage.CHANGED:
            return ChecksFailed(message, after_commit(self.step))
        return RunbookError(
            message,
            "It was between two transactions: each is either whole or not there at all. "
            "`runbook verify` tells which.",
        )

    def _fail(self, error: BaseException) -> None:
        """Note how it failed, and publish that."""
        if isinstance(error, RunbookError):
            self.record.end(error.outcome, error.message, error.remedy, error.exit_code)
            self.record.error = type(error).__name__
        else:
            self.record.end(
                Outcome.ERROR,
                f"An unexpected error ended the run: {type(error).__name__}.",
                "This is a bug; the traceback is in the report.",
            )
        self.publish()
        self.close()


def said(error: psycopg.Error) -> str:
    """Return what the server said, in a sentence."""
    if error.sqlstate is None:
        return "The connection to the server was lost."
    return f"The server answered with error {error.sqlstate}: {error.diag.message_primary}."


def _scrubber(namespace: Mapping[str, Any]) -> Scrubber:
    """Return what keeps secrets unwritten: those of a notebook's variables and environment."""
    return scrubber_for([text for text in namespace.values() if isinstance(text, str)])


_SHELLS_OWN = re.compile(r"_+|_(i+|ih|oh|dh|i?\d+|exit_code)|__.*__")
"""Names that IPython and editors put beside the notebook's own."""


def _given(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the parameters cell, and papermill below it, defined."""
    try:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    except ImportError:
        shell = None
    hidden = set(shell.user_ns_hidden) if shell else set()
    return {
        name: item
        for name, item in namespace.items()
        if not _SHELLS_OWN.fullmatch(name)
        and name not in hidden
        and not isinstance(item, ModuleType | type)
        and not isinstance(item, Notebook)
    }
