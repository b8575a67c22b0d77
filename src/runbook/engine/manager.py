"""Papermill's notebook manager, made truthful: nothing secret is saved, nothing unrun completed."""

import logging
import sys
import time
from typing import Any

from nbformat import NotebookNode
from papermill.engines import NotebookExecutionManager
from papermill.iorw import write_ipynb

from runbook.engine.profile import Profile
from runbook.secrets import Scrubber
from runbook.visible import visible

_log = logging.getLogger("papermill")


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """Keeps a notebook's metadata while it runs, and saves it."""

    TELL_S = 5.0
    """Where there is no terminal: how long nothing is told after a line that was."""

    def __init__(self, nb: NotebookNode, scrubber: Scrubber, **options: Any) -> None:
        super().__init__(nb, **options)
        self.nb: NotebookNode = nb
        self.profile = Profile()
        self._scrubber = scrubber
        self._complained = False
        self._told_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Tell a person how far a cell is: on a terminal in one line that changes."""
        text = visible(text)
        if not sys.stderr.isatty():
            if time.monotonic() - self._told_at >= self.TELL_S:
                self._told_at = time.monotonic()
                print(text, file=sys.stderr, flush=True)
        elif self.pbar is not None:
            self.pbar.set_postfix_str(text)

    def cell_complete(
        self, cell: NotebookNode, cell_index: int | None = None, **kwargs: Any
    ) -> None:
        """Note a cell's end; how far it was is told no more."""
        if self.pbar is not None:
            self.pbar.set_postfix_str("", refresh=False)
        super().cell_complete(cell, cell_index=cell_index, **kwargs)

    def save(self, **kwargs: Any) -> None:
        """Scrub the notebook in memory, then save it, where it is to be saved.

        A place that cannot be written ends no migration midway: it is told once, and papermill
        fails at its own last save if it is still so.
        """
        self.nb = kwargs.get("nb", self.nb)
        if not self.output_path:
            return
        self._scrubber.into(self.nb)
        try:
            write_ipynb(self.nb, self.output_path)
        except OSError as error:
            if not self._complained:
                _log.warning("The output notebook cannot be written: %s", error)
            self._complained = True
        self.last_save_time = self.now()

    def notebook_complete(self, **kwargs: Any) -> None:
        """Note the end. Papermill's own would call every cell completed that did not run."""
        self.nb = kwargs.get("nb", self.nb)
        self.end_time = self.now()
        noted = self.nb.metadata.papermill
        noted["end_time"] = self.end_time.isoformat()
        noted["duration"] = (self.end_time - self.start_time).total_seconds()
        if all(cell.metadata.papermill["status"] == self.COMPLETED for cell in self.nb.cells):
            self.complete_pbar()
        self.cleanup_pbar()
        self._scrubber.into(self.nb)
        self.save()
