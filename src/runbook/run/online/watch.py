"""Watching threads at work: their pace, who waits for them, and that no other run is at work."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook.errors import Stopped
from runbook.run.online.journal import Journal
from runbook.run.online.pace import Pace

TICK_S = 0.1
"""How often sessions that wait for the run are looked for."""

LOOK_S = 1.0
"""How often the pace is decided anew, and a person told."""


@dataclass
class Watch:
    """A session of its own, in which each question is a transaction of its own."""

    connection: psycopg.Connection[Any]
    guard_pid: int
    pace: Pace
    journal: Journal
    _pids: set[int] = field(default_factory=set)
    """The sessions of the run that may block others."""

    @contextmanager
    def worker(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Watch a session: whom it blocks, and that it ends when the run does."""
        pid = connection.info.backend_pid
        self._pids.add(pid)
        try:
            yield
        finally:
            self._pids.discard(pid)

    def over(
        self, futures: Sequence[Future[Any]], look: Callable[[psycopg.Connection[Any]], None]
    ) -> None:
        """Watch until all have ended, calling `look` once a second; raise what the first one that
        failed raised. An interrupt, or an error here, cancels what they execute first."""
        looked = 0.0
        try:
            while pending := [future for future in futures if not future.done()]:
                self._count_blocked()
                if time.monotonic() - looked >= LOOK_S:
                    looked = time.monotonic()
                    self.still_guarded()
                    self.pace.look(self.connection)
                    look(self.connection)
                if any(f.done() and f.exception() for f in futures):
                    break
                wait(pending, timeout=TICK_S, return_when=FIRST_EXCEPTION)
        except BaseException:
            self.pace.stopping.set()
            while wait(futures, timeout=TICK_S).not_done:
                self._cancel()  # again: one may have been between two statements
            raise
        finally:
            if any(not future.done() or future.exception() for future in futures):
                self.pace.stopping.set()
            wait(futures)
        for future in futures:
            future.result()

    def _cancel(self) -> None:
        """Cancel what the workers execute; a server that is gone has done so by itself."""
        with suppress(psycopg.Error):
            self.connection.execute(
                "SELECT pg_cancel_backend(pid) FROM unnest(%s::int[]) AS pid", [list(self._pids)]
            )

    def _count_blocked(self) -> None:
        row = self.connection.execute(_BLOCKED, [list(self._pids)]).fetchone()
        if row and row[0]:
            self.journal.blocked(row[0], row[1])

    def still_guarded(self) -> None:
        """Raise `Stopped` if the guard is gone: another run may be at work."""
        row = self.connection.execute(_GUARDED, [self.guard_pid]).fetchone()
        if not (row and row[0]):
            raise Stopped(
                f"The session that keeps other runs away (pid {self.guard_pid}) is gone.",
                "Run again: it goes on where this one stopped.",
            )


_GUARDED = """\
SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND granted"""

# `waitstart` is NULL for a moment after the wait began (docs, 54.12).
_BLOCKED = """\
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - waitstart) * 1000), 0)::float8
FROM pg_locks WHERE NOT granted AND pg_blocking_pids(pid) && %s::int[]"""
