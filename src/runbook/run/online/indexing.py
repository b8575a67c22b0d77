"""Building indexes beside the application's writes: CREATE INDEX CONCURRENTLY.

It takes no lock timeout: while it waits nobody queues behind it, and a timeout leaves an invalid
index behind. It waits for every older transaction of the database (docs, CREATE INDEX, building
indexes concurrently); who that is is told, and after the limit it is cancelled.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.errors import Stopped
from runbook.run.course import Course, Executed
from runbook.run.holders import Blocker, blockers_of, said
from runbook.run.online.watch import Watch
from runbook.run.recorded import pid_of
from runbook.run.single import execute_single
from runbook.trust.settings import more_memory
from runbook.vocabulary import State, Statement

Connect = Callable[[], psycopg.Connection[Any]]


@dataclass
class Indexing:
    """What builds the indexes of a plan, one after the other."""

    connect: Connect
    watch: Watch
    max_wait_s: float
    tell: Callable[[str, float], None]

    def build(self, statement: Statement) -> Executed | None:
        """Build one, or find it done already by a run that was stopped, and return None.

        What a failed try left behind is removed first. Raises `Stopped` if something else has the
        name, or if others were waited for too long.
        """
        with self.connect() as connection:
            connection.execute("SET lock_timeout = 0")
            connection.execute("SET statement_timeout = 0")
            connection.execute(more_memory(until_commit=False).encode())
            state = state_of(connection, statement)
            if state is State.DONE:
                return None
            if state is State.FOREIGN:
                raise Stopped(
                    f"{statement.title}: something else has its name by now.",
                    "Rename or drop that.",
                )
            if state is State.LEFTOVER and statement.cleanup:
                self._watched(connection, statement.title, statement.cleanup)
            course = Course()
            self._watched(connection, statement.title, statement, course)
            return course.statements()[0]

    def _watched(
        self,
        connection: psycopg.Connection[Any],
        title: str,
        what: Statement | str,
        course: Course | None = None,
    ) -> None:
        """Execute in a thread, while this one watches."""
        pid = pid_of(connection)
        waiting = _Waiting(self.max_wait_s)

        def run() -> None:
            if isinstance(what, Statement) and course is not None:
                course.execute(connection, what)
            else:
                execute_single(connection, str(what))

        def look(watcher: psycopg.Connection[Any]) -> None:
            blockers = tuple(
                one for one in blockers_of(watcher, pid) if not self.watch.is_own(one.pid)
            )
            self.tell(*_progress(watcher, pid, title, blockers))
            if waiting.too_long(blockers):
                watcher.execute("SELECT pg_cancel_backend(%s)", [pid])

        with (
            self.watch.worker(connection),
            ThreadPoolExecutor(1, thread_name_prefix="index") as pool,
        ):
            try:
                self.watch.over([pool.submit(run)], look)
            except psycopg.errors.QueryCanceled:
                if waiting.given_up is None:
                    raise
                raise Stopped(
                    f"{title}: it waited {self.max_wait_s:,.0f} s for {said(waiting.given_up)}.",
                    "Run again when that is done.",
                ) from None


@dataclass
class _Waiting:
    """How long the same sessions have been waited for."""

    limit_s: float
    given_up: tuple[Blocker, ...] | None = None
    _since: float | None = None

    def too_long(self, blockers: tuple[Blocker, ...]) -> bool:
        now = time.monotonic()
        self._since = (self._since or now) if blockers else None
        if self._since is None or now - self._since < self.limit_s:
            return False
        self.given_up = blockers
        return True


def state_of(connection: psycopg.Connection[Any], statement: Statement) -> State:
    """Return how far a concurrent statement has come."""
    assert statement.state is not None
    row = execute_single(connection, statement.state).fetchone()
    assert row is not None
    return State(row[0])


def _progress(
    watcher: psycopg.Connection[Any], pid: int, title: str, blockers: tuple[Blocker, ...]
) -> tuple[str, float]:
    """Return what the server says of the build (docs, 28.4.4), and which share of it is done."""
    found = index_progress(watcher, pid=pid)
    text, share = found or ("waiting for its lock", 0.0)
    text = f"{title}: {text}"
    if blockers:
        text += f"; waits for {said(blockers)}"
    return text, share


def index_progress(
    connection: psycopg.Connection[Any], *, pid: int | None = None, table_oid: int | None = None
) -> tuple[str, float] | None:
    """Return what the server says of a session's or a table's index build, or None where there is
    none."""
    row = connection.execute(_PROGRESS, {"pid": pid, "oid": table_oid}).fetchone()
    if row is None:
        return None
    phase, done, total = row
    return (f"{phase}, {done:,} of {total:,}", done / total) if total else (phase, 0.0)


_PROGRESS = """\
SELECT phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END,
       CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END
FROM pg_stat_progress_create_index WHERE pid = %(pid)s OR relid = %(oid)s::oid
   OR relid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass))"""
