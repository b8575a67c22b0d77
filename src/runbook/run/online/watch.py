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
from runbook.run.recorded import pid_of

TICK_S = 0.1
"""How often sessions that wait for the run are looked for."""

CANCEL_S = 2.0
"""How long the server may take to hear that a statement is cancelled."""

LOOK_S = 1.0
"""How often the pace is decided anew, and a person told."""


@dataclass
class Watch:
    """A session of its own, in which each question is a transaction of its own."""

    connection: psycopg.Connection[Any]
    guard_pid: int
    pace: Pace
    journal: Journal
    _workers: dict[int, psycopg.Connection[Any]] = field(default_factory=dict)
    """The sessions of the run that may block others, by their processes."""

    @contextmanager
    def worker(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Watch a session: whom it blocks, and that it ends when the run does."""
        pid = pid_of(connection)
        self._workers[pid] = connection
        try:
            yield
        finally:
            del self._workers[pid]

    def is_own(self, pid: int | None) -> bool:
        """Return whether a session is one of the run's, which ends by itself."""
        return pid in self._workers

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
            self.end(futures)
            raise
        if any(future.exception() for future in futures if future.done()):
            self.pace.stopping.set()
        wait(futures)
        for future in futures:
            future.result()

    def end(self, futures: Sequence[Future[Any]]) -> None:
        """Have all end soon, whoever is impatient meanwhile."""
        self.pace.stopping.set()
        while True:
            try:
                while wait(futures, timeout=TICK_S).not_done:
                    self._cancel()  # again: one may have been between two statements
                return
            except KeyboardInterrupt:
                continue

    def _cancel(self) -> None:
        """Cancel what the workers execute, by themselves: the watching session may be gone. A
        server that is gone has done so."""
        for connection in list(self._workers.values()):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_S)

    def _count_blocked(self) -> None:
        row = self.connection.execute(_BLOCKED, [list(self._workers)]).fetchone()
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
