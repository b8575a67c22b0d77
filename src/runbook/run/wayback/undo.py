"""Undoing an applied run: everything that it did, in one short transaction that records itself."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import read_table_named
from runbook.errors import BlockedError, RolledBack, RunbookError
from runbook.export.prisma import forget
from runbook.facts import Recorded, Table
from runbook.plan import Plan, blockers
from runbook.plan.build import HAND_SET_US
from runbook.plan.ledger import record_rollback
from runbook.run.dropping import still_there
from runbook.run.online.contraction import drops_view
from runbook.run.online.guard import guarded
from runbook.run.online.journal import Journal
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.recorded import is_recorded
from runbook.run.rollback import what_failed
from runbook.run.tally import Tally
from runbook.run.wayback.hand_set import HandSet, hand_set_statement
from runbook.run.wayback.obstacles import obstacles
from runbook.run.wayback.view import serving
from runbook.vocabulary import Finding, Phase, Role, Statement

Connect = Callable[[], psycopg.Connection[Any]]


@dataclass(frozen=True, kw_only=True)
class Undone:
    """A run that was taken back."""

    run_id: str
    discarded: int
    """Rows whose label, not the rules' one, is lost."""
    forgotten: tuple[str, ...]
    """Migrations that were taken out of Prisma's history with it."""
    counted_under_lock: bool
    """Whether they were counted with nobody else able to write; else before."""


@dataclass(frozen=True, kw_only=True)
class Undo:
    """What takes one applied run back."""

    connect: Connect
    recorded: Recorded
    plan: Plan
    table: Table
    """The table as it is, under its new name."""
    rollback_id: uuid.UUID
    before: Tally
    """The rows as they were counted before."""
    discarded: int
    """Rows whose label is not the rules', as they were counted before."""
    discard: bool
    """Whether such labels may be lost."""
    lock_budget_ms: int
    """How long the count of such rows, as estimated, may take under the lock."""
    wait_ms: int
    """How long to wait for another run on the table to end."""
    max_wait_ms: int
    """How long to try for the lock."""
    trust_owner_code: bool
    """Whether code of less privileged roles may run with the connected role's rights."""
    journal: Journal
    _counted: list[HandSet] = field(default_factory=list)
    _forgotten: list[str] = field(default_factory=list)

    def run(self) -> Undone:
        """Take it back, or leave everything as it is.

        Raises `RefusedError` if another run is at work, the table cannot be locked or something has
        come between since it was looked at, and `RolledBack` where a statement failed.
        """
        done: list[bool] = []
        with self._failing_well(done), self._alone(), self.journal.phase(Phase.ROLLBACK):
            Short(
                connect=self.connect,
                table=self.table,
                journal=self.journal,
                max_wait_s=self.max_wait_ms / 1000,
                tell=lambda phase, text, share: None,
            ).run(
                Transaction(
                    phase=Phase.ROLLBACK,
                    statements=self._statements(),
                    judge=self._judge,
                    seen=self._see,
                    last=self._record,
                    committed=lambda: done.append(True),
                )
            )
        return Undone(
            run_id=self.recorded.entry.run_id,
            discarded=self._discarded,
            forgotten=tuple(self._forgotten),
            counted_under_lock=bool(self._counted),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs away, by both names of the table."""
        old = replace(self.table, name=self.plan.table_before)
        with guarded(self.connect, old, wait_ms=self.wait_ms):
            if old.name == self.table.name:
                yield
                return
            with guarded(self.connect, self.table, wait_ms=self.wait_ms):
                yield

    def _statements(self) -> Sequence[Statement]:
        """Return settings and lock, then what removes the view that is still there, then the rest;
        labels are counted under the lock where that is quick."""
        back = [
            one
            for one in self.plan.of_phase(Phase.ROLLBACK)
            if one.role in {Role.SETTING, Role.LOCK, Role.CHANGE}
        ]
        opening = [one for one in back if one.role is not Role.CHANGE]
        counting = hand_set_statement(self.plan)
        quick = self.before.rows * HAND_SET_US / 1000 <= self.lock_budget_ms
        with self.connect() as connection, connection.transaction():
            # The first lock would find out, too, but could not say what it is.
            self._judge(connection)
            served = serving(connection, self.plan, self.table.oid)
            changes = still_there(connection, [one for one in back if one.role is Role.CHANGE])
        if any(map(drops_view, served)):
            opening = [self._with_view(one) if one.role is Role.LOCK else one for one in opening]
        return [
            *opening,
            *([counting] if counting and quick else []),
            *(replace(one, phase=Phase.ROLLBACK) for one in served),
            *changes,
        ]

    def _with_view(self, lock: Statement) -> Statement:
        """Return the lock of the table with that of the view before it: who uses the view locks
        both in this order, and the other way round each would wait for the other."""
        return replace(
            lock,
            sql=sql.render(
                "LOCK TABLE {view}, {table} IN ACCESS EXCLUSIVE MODE",
                view=sql.name(self.plan.schema, self.plan.table_before),
                table=sql.name(self.plan.schema, self.plan.table_after),
            ),
            title="Lock the view under the old name, and the table",
        )

    def _judge(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse where something has come between since it was looked at."""
        table = read_table_named(connection, self.plan.schema, self.plan.table_after)
        found = blockers(
            obstacles(
                connection,
                self.recorded,
                self.plan,
                table,
                trust_owner_code=self.trust_owner_code,
            )
        )
        if found:
            raise _came_between(found[0])

    def _see(self, statement: Statement, cursor: psycopg.Cursor[Any]) -> None:
        """Take what was counted under the lock; refuse where labels would be lost."""
        if statement.role is Role.HAND_SET:
            found = HandSet.of(cursor)
            self._counted[:] = [found]
            if found.rows and not self.discard:
                raise _came_between(found.finding(self.table.name, discard=False))

    @property
    def _discarded(self) -> int:
        return self._counted[0].rows if self._counted else self.discarded

    def _record(self, connection: psycopg.Connection[Any]) -> None:
        """Record it, in the same transaction, and have Prisma forget it."""
        self._forgotten[:] = forget(
            connection, self.recorded.entry.run_id, self.recorded.ledger_schema
        )
        measured = {
            "rows": self.before.rows,
            "fingerprint": self.before.fingerprint,
            "discarded": self._discarded,
        }
        text = record_rollback(
            self.recorded.ledger_schema,
            sql.value(self.recorded.entry.run_id),
            sql.value(str(self.rollback_id)),
            {name: sql.value(item) for name, item in measured.items()},
        )
        connection.execute(text.encode())

    @contextmanager
    def _failing_well(self, done: list[bool]) -> Iterator[None]:
        """Say of every failure whether the run is taken back."""
        try:
            yield
        except LostCommit as lost:
            if not is_recorded(
                self.connect,
                self.recorded.ledger_schema,
                uuid.UUID(self.recorded.entry.run_id),
                lost_pid=lost.pid,
                wait_ms=max(self.wait_ms, 10_000),
                table="rollback",
            ):
                raise RolledBack("The connection was lost while committing.", _UNDONE) from None
        except RunbookError:
            raise
        except (psycopg.Error, KeyboardInterrupt) as error:
            if not done:
                raise RolledBack(what_failed(error), _UNDONE) from error


_UNDONE = "Nothing was taken back: the database is as it was. Run again."


def _came_between(finding: Finding) -> BlockedError:
    return BlockedError(
        f"This has come between since it was looked at: {finding.message}",
        f"Nothing was changed. {finding.remedy}",
    )
