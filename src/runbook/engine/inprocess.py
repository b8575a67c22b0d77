"""Executing a notebook without a kernel: in this process, in the thread that asks for it.

A kernel takes a second to start and to end, and 150 MB, and gives one notebook a process that can
be killed. Where many databases are migrated by one worker, the worker is that process. The notebook
is the same file, its cells run in the same order with the same parameters, and what they show is
put below them: what is archived is the same as of a kernel, cell by cell.
"""

import platform
import traceback
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from runbook.engine.ending import Cause, Ending, failed, named
from runbook.engine.manager import Manager
from runbook.engine.parameters import Prepared
from runbook.notebook.host import HOST
from runbook.secrets import Scrubber

if TYPE_CHECKING:
    from IPython.core.formatters import DisplayFormatter


class Here:
    """Executes a notebook cell by cell until one does not succeed."""

    def __init__(self, manager: Manager, prepared: Prepared) -> None:
        self._manager = manager
        self._prepared = prepared
        self._page = _Page(prepared.environment)
        self._asked = ""

    def run(self) -> Ending:
        """Execute the cells; return how that went."""
        nb = self._manager.nb
        nb.metadata["language_info"] = {
            "name": "python",
            "version": platform.python_version(),
            "pygments_lexer": "ipython3",
            "file_extension": ".py",
        }
        namespace: dict[str, Any] = {"__name__": "__main__"}
        count = 0
        for place, cell in enumerate(nb.cells):
            runs = cell.cell_type == "code"
            if self._asked and runs:
                sentence = f"The run was interrupted by {self._asked} before {named(cell)}."
                return Ending(cause=Cause.INTERRUPTED, place=place, begun=False, sentence=sentence)
            self._manager.cell_start(cell, place)
            if runs:
                count += 1
                cell.execution_count = count
                with self._manager.profile.timed(named(cell)):
                    error = self._execute(cell, place, namespace)
                if error is not None:
                    self._manager.cell_exception(cell, cell_index=place)
                    self._manager.cell_complete(cell, cell_index=place)
                    text = self._prepared.scrubber.text(str(error))
                    return Ending(
                        cause=Cause.FAILED,
                        place=place,
                        sentence=failed(cell, type(error).__name__, text),
                    )
            self._manager.cell_complete(cell, cell_index=place)
        return Ending(cause=Cause.COMPLETED)

    def interrupt(self, asked: str) -> None:
        """Note that a signal asks the run to end: no further cell is begun."""
        self._asked = self._asked or asked

    def _execute(
        self, cell: NotebookNode, place: int, namespace: dict[str, Any]
    ) -> BaseException | None:
        """Execute one code cell; return what it raised."""
        source = self._prepared.sources.get(place, cell.source)
        cell.outputs = self._page.outputs = []
        token = HOST.set(self._page)
        error: BaseException | None = None
        try:
            exec(compile(source, f"<cell {cell.get('id', place)}>", "exec"), namespace)
        except BaseException as raised:  # as a kernel does
            error = raised
            self._page.outputs.append(_error(raised))
        finally:
            HOST.reset(token)
        self._prepared.scrubber.into(cell)
        return error


class _Page:
    """A host that keeps what is shown as the outputs of the cell that runs."""

    archives = True
    wants_progress = False  # this process is the one that would be told

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.outputs: list[NotebookNode] = []

    def show(self, *things: object) -> None:
        for thing in things:
            self.outputs.append(_formatted(thing))

    def show_data(self, data: Mapping[str, Any]) -> None:
        self.outputs.append(new_output("display_data", data=dict(data)))

    def begin_line(self, thing: object) -> "_Line":
        self.show(thing)
        return _Line(self.outputs[-1])

    def hide(self, scrubber: Scrubber) -> None:
        """Leave it to the engine, which writes what is left of an error."""


class _Line:
    """An output that changes."""

    def __init__(self, output: NotebookNode) -> None:
        self._output = output

    def update(self, thing: object) -> None:
        self._output.update(_formatted(thing))


def _formatted(thing: object) -> NotebookNode:
    """Return a thing as an output, by every MIME type that it has."""
    data, metadata = _formatter().format(thing)
    return new_output("display_data", data=data, metadata=metadata)


@cache
def _formatter() -> "DisplayFormatter":
    from IPython.core.formatters import DisplayFormatter

    return DisplayFormatter()


def _error(error: BaseException) -> NotebookNode:
    """Return an error as IPython shows it: those meant for people without a traceback."""
    render = getattr(error, "_render_traceback_", None)
    lines = render() if render else traceback.format_exception(error)
    return new_output(
        "error", ename=type(error).__name__, evalue=str(error), traceback=[*map(str.rstrip, lines)]
    )
