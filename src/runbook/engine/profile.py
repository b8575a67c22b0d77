"""Where the time of a run goes that is not the database's: kernel, cells, report."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runbook.record import Record

VARIABLE = "RUNBOOK_PROFILE"
"""The variable that asks for the breakdown: bare papermill has no options of ours."""


class Profile:
    """Seconds by step, in the order in which they began."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Take the time of a step, however it ends; what runs again is added."""
        started = time.monotonic()
        self._seconds.setdefault(step, 0.0)
        try:
            yield
        finally:
            self._seconds[step] += time.monotonic() - started

    def put_into(self, record: Record) -> None:
        """Add the breakdown to the record's timings, where it is asked for. What the notebook timed
        itself is part of its cells."""
        if os.environ.get(VARIABLE):
            record.timings |= {
                f"profile: {step}": round(seconds, 4) for step, seconds in self._seconds.items()
            }
