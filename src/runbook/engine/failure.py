"""The exception by which a run that did not succeed leaves papermill."""

from typing import Any

import click
from papermill.exceptions import PapermillExecutionError

from runbook.visible import visible


class RunFailed(PapermillExecutionError, click.ClickException):  # type: ignore[misc]
    """A run of ours failed, was refused or was interrupted.

    To a caller of `papermill.execute_notebook` it is papermill's own execution error. On the
    command line of papermill, which click runs, it ends with the run's exit code and without a
    traceback.
    """

    def __init__(
        self,
        message: str,
        remedy: str = "",
        exit_code: int = 1,
        *,
        told: bool = True,
        **cell: Any,
    ) -> None:
        """`told` is whether standard error has the message already, as after every run that was
        archived."""
        # Papermill's own initialiser would pass its six arguments on to click's.
        click.ClickException.__init__(self, message)
        self.args = (message, remedy, exit_code)  # so that it can be pickled
        self.remedy = remedy
        self._told = told
        self.exit_code = exit_code  # type: ignore[misc]
        self.cell_index: int = cell.get("index", -1)
        self.exec_count: int | None = cell.get("execution_count")
        self.source: str = cell.get("source", "")
        self.ename: str = cell.get("ename", type(self).__name__)
        self.evalue: str = cell.get("evalue", message)
        self.traceback: list[str] = cell.get("traceback", [])

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def show(self, file: Any = None) -> None:
        """Say what happened, if that was not said before, and what to do next."""
        for text in ("" if self._told else f"Error: {self.message}", self.remedy):
            if text:
                click.echo(visible(text), file=file, err=file is None)
