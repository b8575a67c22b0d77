"""How far a run has come: the statements that ran, with their times and locks, and the tallies."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook.run.single import execute_single
from runbook.run.tally import Proof, Tally
from runbook.trust.settings import EMPTY_PATH_LOCALLY, application_path
from runbook.vocabulary import Lock, Phase, Role, Statement

_TRANSACTIONS = (Phase.ATOMIC, Phase.EXPAND, Phase.CUTOVER, Phase.ROLLBACK)
"""The phases whose statements are one transaction, which holds its locks to its end."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A statement that ran; times in milliseconds."""

    sql: str
    title: str
    phase: str
    role: str
    lock: str
    waited_ms: float
    """How long it waited for the table's lock."""
    held_ms: float
    """How long its lock was held: until the transaction ended."""
    duration_ms: float
    rows: int | None
    grows: bool
    """Whether its time grows with the table's rows."""


@dataclass
class Course:
    """Notes what was executed."""

    tallies: dict[Role, Tally] = field(default_factory=dict)
    proof: Proof | None = None
    """The comparison, once it was made, also where it failed."""
    locked_at: float | None = None
    ended_at: float | None = None
    _executed: list[tuple[Executed, float]] = field(default_factory=list)
    """Each with the moment since which its lock is held."""

    def execute(
        self,
        connection: psycopg.Connection[Any],
        statement: Statement,
        values: Sequence[object] = (),
    ) -> psycopg.Cursor[Any]:
        """Execute a statement, with values for its `$1`, `$2` …, and note how long it took."""
        if statement.application_schema:
            connection.execute(application_path(statement.application_schema).encode())
        started = time.monotonic()
        try:
            cursor = execute_single(connection, statement.sql, values)
        except psycopg.errors.QueryCanceled as error:
            if statement.role is not Role.LOCK:
                raise
            raise psycopg.errors.LockNotAvailable(str(error)) from error
        ended = time.monotonic()
        if statement.application_schema:
            connection.execute(EMPTY_PATH_LOCALLY.encode())
        locking = statement.role is Role.LOCK
        if locking:
            self.locked_at = ended
        executed = Executed(
            sql=statement.sql,
            title=statement.title,
            phase=statement.phase,
            role=statement.role,
            lock=statement.lock,
            waited_ms=milliseconds(ended - started) if locking else 0.0,
            held_ms=0.0,
            duration_ms=milliseconds(ended - started),
            rows=_changed_rows(cursor),
            grows=statement.grows,
        )
        self._executed.append((executed, ended if locking else started))
        return cursor

    @property
    def length(self) -> int:
        """How many statements have run."""
        return len(self._executed)

    def cut(self, length: int) -> None:
        """Forget what ran after so many statements: it was rolled back and is tried again."""
        del self._executed[length:]

    def end(self) -> None:
        """Note that the transaction has ended, and its locks with it."""
        self.ended_at = time.monotonic()

    @property
    def locked_ms(self) -> float:
        """How long the table was locked against the application."""
        if self.locked_at is None:
            return 0.0
        return milliseconds((self.ended_at or time.monotonic()) - self.locked_at)

    def statements(self) -> tuple[Executed, ...]:
        """Return what ran, with the time that locks were held until the transaction ended."""
        ended_at = self.ended_at or time.monotonic()
        return tuple(
            replace(one, held_ms=milliseconds(ended_at - since))
            if one.lock != Lock.NONE and one.phase in _TRANSACTIONS
            else one
            for one, since in self._executed
        )


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def _changed_rows(cursor: psycopg.Cursor[Any]) -> int | None:
    """Return how many rows a statement changed, or None where it is not about rows."""
    verb = (cursor.statusmessage or "").partition(" ")[0]
    return cursor.rowcount if verb in {"INSERT", "UPDATE", "DELETE"} else None
