"""A short transaction that locks the table: all of it or nothing, tried again while others are in
the way."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import psycopg

from runbook.errors import TableLocked
from runbook.facts import Table
from runbook.run.course import Course, milliseconds
from runbook.run.holders import Blocker, holders, said
from runbook.run.online.journal import Journal, LockTry, now
from runbook.run.patience import BLOCKED, Patience
from runbook.run.recorded import pid_of
from runbook.trust.holding import hold_names
from runbook.vocabulary import Lock, Phase, Role, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Connection = psycopg.Connection[Any]


_OPENING = (Role.SETTING, Role.LOCK)
"""What comes before the first change."""


class LostCommit(Exception):
    """COMMIT was sent, and nobody answered: only the database knows what came of it."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid
        """The session that was to commit."""


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """What a short transaction does."""

    phase: Phase
    statements: Sequence[Statement]
    prelude: Sequence[str] = ()
    """What runs before the table is locked."""
    judge: Callable[[Connection], None]
    """Looks at the table once it is locked, and raises if it shall not be changed."""
    seen: Callable[[Statement, psycopg.Cursor[Any]], None] = lambda statement, cursor: None
    """Called with each statement that ran, and its answer; raises if there shall be no more."""
    finale: Sequence[str] = ()
    """What runs last."""
    last: Callable[[Connection], object] = lambda connection: None
    """Called after that, and before it is committed."""
    committed: Callable[[], None] = lambda: None
    """Called at once when it is committed: whatever happens after, it is."""

    def run(self, connection: Connection, course: "_Course") -> None:
        """Run and commit it. Raises `LostCommit`, and what the server said otherwise."""
        for text in self.prelude:
            connection.execute(text.encode())
        opening = list(takewhile(lambda one: one.role in _OPENING, self.statements))
        for statement in opening:
            if statement.role is Role.SETTING and statement.lock is not Lock.NONE:
                # Once before, so that it costs less under the lock (13 ms → 4 ms).
                self.judge(connection)
            self.seen(statement, course.execute(connection, statement))
        # After the settings that follow the lock: the try for it may take no longer than
        # lock_timeout, and reading the catalog may.
        self.judge(connection)
        for statement in self.statements[len(opening) :]:
            self.seen(statement, course.execute(connection, statement))
        for text in self.finale:
            connection.execute(text.encode())
        self.last(connection)
        pid = pid_of(connection)
        try:
            connection.commit()
        except (psycopg.Error, KeyboardInterrupt) as error:
            raise LostCommit(pid) from error
        self.committed()


@dataclass
class Short:
    """Runs the short transactions of one table."""

    connect: Connect
    table: Table
    journal: Journal
    max_wait_s: float
    tell: Callable[[Phase, str, float], None]
    check: Callable[[], None] = lambda: None
    """Called before each try; raises if there shall be none."""

    def run(self, transaction: Transaction) -> None:
        """Run a transaction; between two tries nothing is held.

        Raises `TableLocked` where the lock was not to be had in time, `LostCommit`, and what the
        server said if a statement failed; then nothing of it was done.
        """
        patience = Patience(self.max_wait_s)
        with self.connect() as connection:
            connection.autocommit = False
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            tries = 0
            while True:
                self.check()
                tries += 1
                course = _Course()
                blockers: tuple[Blocker, ...] = ()
                try:
                    held = hold_names([(self.table.schema, self.table.name)])
                    connection.execute(held.encode())
                    transaction.run(connection, course)
                    self.journal.executed += course.ended().statements()
                    return
                except BLOCKED:
                    connection.rollback()
                    course.end()
                    blockers = holders(connection, self.table.oid, for_ms=course.waited_ms)
                finally:
                    self._note(transaction.phase, course.ended(), blockers)
                    if not connection.closed:
                        connection.rollback()
                self.tell(transaction.phase, f"try {tries} for the lock: {said(blockers)}", 0.0)
                if not patience.pause():
                    raise self._refusal(tries, said(blockers))

    def _note(self, phase: Phase, course: "_Course", blockers: tuple[Blocker, ...]) -> None:
        self.journal.lock_tries.append(
            LockTry(
                phase=phase.value,
                at=now(),
                waited_ms=course.waited_ms,
                held_ms=course.locked_ms,
                got=course.locked_at is not None,
                blockers=blockers,
            )
        )

    def _refusal(self, tries: int, who: str) -> TableLocked:
        return TableLocked(
            table=f"{self.table.schema}.{self.table.name}",
            tries=tries,
            each=f"within {self.max_wait_s:,.1f} s",
            who=who,
        )


class _Course(Course):
    """Knows how long a try waited, one that failed too."""

    def __init__(self) -> None:
        super().__init__()
        self._asked_at: float | None = None

    def ended(self) -> "_Course":
        """Return it, with the moment at which its transaction ended."""
        if self.ended_at is None:
            self.end()
        return self

    def execute(
        self,
        connection: Connection,
        statement: Statement,
        values: Sequence[object] = (),
    ) -> psycopg.Cursor[Any]:
        if statement.role is Role.LOCK:
            self._asked_at = time.monotonic()
        return super().execute(connection, statement, values)

    @property
    def waited_ms(self) -> float:
        if self._asked_at is None:
            return 0.0
        return milliseconds((self.locked_at or self.ended_at or time.monotonic()) - self._asked_at)
