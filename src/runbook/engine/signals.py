"""Signals that ask a run to end, while a notebook runs and not a moment longer."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def heeding(notice: Callable[[str], None]) -> Iterator[None]:
    """Have `notice` told the name of each signal that asks to end, instead of ending.

    A signal that is ignored stays ignored (`nohup`), and outside the main thread, where Python
    takes no handlers, nothing is installed. `notice` is called between any two instructions of the
    main thread, so it must do no more than take a note.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        notice(signal.Signals(number).name)

    former = {}
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, before)


def ignore() -> None:
    """Ignore those signals from now on: all is done, and the exit code shall say how it ended."""
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                signal.signal(number, signal.SIG_IGN)
