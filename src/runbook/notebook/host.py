"""What a notebook's code runs in: where it shows things, and the environment that it reads.

As a rule that is a Jupyter kernel: IPython displays below the running cell. Where many databases
are migrated at once, a process executes many notebooks, each in a thread of its own with a host of
its own; neither IPython's display nor a process's environment knows of threads.
"""

import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from runbook.database import ARCHIVING
from runbook.secrets import Scrubber


class Line(Protocol):
    """What is shown in one place and changes."""

    def update(self, thing: object) -> None:
        """Show something else in its place."""


class Host(Protocol):
    """Where the code of a notebook runs."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables."""

    @property
    def archives(self) -> bool:
        """Whether what is shown will be archived."""

    def show(self, *things: object) -> None:
        """Show things below the cell."""

    def show_data(self, data: Mapping[str, Any]) -> None:
        """Show data, by MIME type, as it is."""

    @property
    def wants_progress(self) -> bool:
        """Whether somebody must know how far the run is, should this process be killed."""

    def begin_line(self, thing: object) -> Line:
        """Show something that will change."""

    def hide(self, scrubber: Scrubber) -> None:
        """Keep secrets out of what is shown of an error that ends a cell."""


class Kernel:
    """A Jupyter kernel, with IPython's display."""

    @property
    def environment(self) -> Mapping[str, str]:
        return os.environ

    @property
    def archives(self) -> bool:
        return ARCHIVING in os.environ

    def show(self, *things: object) -> None:
        from IPython.display import display

        display(*things)

    def show_data(self, data: Mapping[str, Any]) -> None:
        from IPython.display import display

        display(dict(data), raw=True)

    @property
    def wants_progress(self) -> bool:
        return self.archives

    def begin_line(self, thing: object) -> Line:
        from IPython.display import display

        line: Line = display(thing, display_id=True)
        return line

    def hide(self, scrubber: Scrubber) -> None:
        """By hand no engine stands between the kernel and what an editor saves."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None:
            return
        show = type(shell)._showtraceback

        def shown(kind: type, error: object, lines: Sequence[str]) -> None:
            show(shell, kind, scrubber.text(str(error)), [scrubber.text(line) for line in lines])

        shell._showtraceback = shown


HOST: ContextVar[Host] = ContextVar("HOST")
"""The host of the code that runs in this thread, where it is none of IPython's."""


def host() -> Host:
    """Return the host of the code that runs in this thread."""
    return HOST.get(_KERNEL)


_KERNEL = Kernel()
