"""Atomic mode: one transaction that locks the table, changes it, proves it, and records itself."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import psycopg

from runbook import sql
from runbook.database import require_utf8
from runbook.errors import RefusedError, RolledBack, RunbookError, TableLocked
from runbook.facts import Catalog, Table
from runbook.plan import Plan
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.run.course import Course, Executed
from runbook.run.digest import ON_FAILURE, TAKING, Digests
from runbook.run.drift import drift
from runbook.run.exclusion import exclude_others
from runbook.run.holders import holders, said
from runbook.run.patience import BLOCKED, Patience
from runbook.run.recorded import is_recorded, pid_of
from runbook.run.rollback import committed_before, nothing_else, rolling_back
from runbook.run.tally import Proof, Tally, prove
from runbook.spec import Spec
from runbook.trust.holding import hold_names
from runbook.trust.ledger import require_own_ledger
from runbook.vocabulary import Phase, Role, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Progress = Callable[[str], None]
Record = Callable[[str], str]
"""Makes the statement that records a run, of its id, where others look for it."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A run that is committed."""

    run_id: str
    statements: tuple[Executed, ...]
    before: Tally
    after: Tally
    tally_sql: str
    """The query that `after` is the answer to: the last statement under the lock."""
    proof: Proof
    locked_ms: float
    """How long the table was locked against the application."""


def apply_atomic(
    connect: Connect,
    spec: Spec,
    catalog: Catalog,
    plan: Plan,
    *,
    run_id: uuid.UUID,
    wait_ms: int,
    max_wait_ms: int = 0,
    progress: Progress = lambda text: None,
    course: Course | None = None,
    records: Sequence[Record] = (),
) -> Applied:
    """Apply the plan, or leave the database as it was.

    `wait_ms` is how long to wait for another run on the same table to end, `max_wait_ms` how long
    to try again for a lock that was not to be had within its timeout; `course` is where to note
    every statement that ran, for a caller that wants to know it of a failed run too; `records` make
    statements, each of the run's id, by which others record the run in the same transaction.

    Raises `RefusedError` when nothing was tried (another run, the lock not to be had, the table no
    longer as reviewed) and `RolledBack` when a statement or the proof failed. If the connection is
    lost while committing, a new one asks the ledger which of the two it was.
    """
    assert catalog.table is not None
    run = _AtomicRun(
        connect, spec, catalog, catalog.table, plan, run_id, wait_ms, max_wait_ms, progress, records
    )
    return run.apply(course or Course())


@dataclass
class _AtomicRun:
    """One run, and what it works on."""

    connect: Connect
    spec: Spec
    catalog: Catalog
    table: Table
    plan: Plan
    run_id: uuid.UUID
    wait_ms: int
    max_wait_ms: int
    progress: Progress
    records: Sequence[Record]
    _digests: Digests = field(init=False)

    def __post_init__(self) -> None:
        self._digests = Digests(self.table)

    def apply(self, course: Course) -> Applied:
        """Do it all."""
        try:
            proof = self._transact(course)
        finally:
            course.end()
        return Applied(
            run_id=str(self.run_id),
            statements=course.statements(),
            before=course.tallies[Role.TALLY_BEFORE],
            after=course.tallies[Role.TALLY_AFTER],
            tally_sql=self._tally_sql(),
            proof=proof,
            locked_ms=course.locked_ms,
        )

    def _tally_sql(self) -> str:
        (tally,) = (one for one in self.plan.of_phase(Phase.ATOMIC) if one.role is Role.TALLY_AFTER)
        return tally.sql

    def _transact(self, course: Course) -> Proof:
        """Run both phases and commit; return the proof."""
        with self.connect() as connection:
            require_utf8(connection)
            connection.autocommit = False
            # The role's default may be stricter; then rows committed while this run waits for its
            # lock would be invisible to it.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            staying = self._prepare(connection, course)
            with rolling_back(connection, staying):
                self._lock(connection, course, staying)
                self._change(connection, course, staying)
                proof = self._prove(connection, course, staying)
                self._record(connection, course.tallies[Role.TALLY_AFTER], proof)
            self._commit(connection, staying)
        return proof

    def _prepare(self, connection: psycopg.Connection[Any], course: Course) -> str:
        """Run what must commit before the rest; return what a later failure must say of it."""
        done: list[str] = []
        for statement in self.plan.of_phase(Phase.PREPARE):
            with rolling_back(connection, committed_before(done)), connection.transaction():
                exclude_others(connection, self.table, wait_ms=self.wait_ms)
                self.progress(statement.title)
                timeout = f"SET LOCAL lock_timeout = {statement.lock_timeout_ms:d}"
                connection.execute(timeout.encode())
                course.execute(connection, statement)
            done.append(statement.title)
        return committed_before(done)

    def _lock(self, connection: psycopg.Connection[Any], course: Course, staying: str) -> None:
        """Take the advisory lock and the table's, or refuse and say who is in the way.

        A try that fails leaves nothing held: whoever waits for this lock has everybody else wait.
        """
        patience = Patience(self.max_wait_ms / 1000)
        before, tries = course.length, 0
        while True:
            exclude_others(connection, self.table, wait_ms=self.wait_ms)
            held = hold_names([(self.table.schema, self.table.name)])
            connection.execute(held.encode())
            tries += 1
            try:
                for statement in self._opening():
                    self.progress(statement.title)
                    course.execute(connection, statement)
                return
            except BLOCKED:
                connection.rollback()
                course.cut(before)
                who = said(holders(connection, self.table.oid))
                connection.rollback()
            except psycopg.errors.UndefinedTable:
                name = f"{self.table.schema}.{self.table.name}"
                raise _changed(f"table {name} is no longer there", staying) from None
            self.progress(f"try {tries} for the lock: {who}")
            if not patience.pause():
                locked = TableLocked(
                    table=f"{self.table.schema}.{self.table.name}",
                    tries=tries,
                    each=f"of {self.plan.statements[0].lock_timeout_ms:,} ms",
                    who=who,
                )
                raise nothing_else(locked, staying)

    def _opening(self) -> tuple[Statement, ...]:
        """Return the statements up to the lock."""
        statements = self.plan.of_phase(Phase.ATOMIC)
        return tuple(takewhile(lambda one: one.role in {Role.SETTING, Role.LOCK}, statements))

    def _change(self, connection: psycopg.Connection[Any], course: Course, staying: str) -> None:
        """Judge the table by its facts once it is locked, then run the other statements."""
        self._recheck(connection, staying)
        for statement in self.plan.of_phase(Phase.ATOMIC)[len(self._opening()) :]:
            if statement.role in ON_FAILURE:
                continue
            self.progress(statement.title)
            if statement.role in TAKING:
                self._digests.execute(connection, course, statement)
                continue
            cursor = course.execute(connection, statement)
            if statement.role in {Role.TALLY_BEFORE, Role.TALLY_AFTER}:
                course.tallies[statement.role] = Tally.of(cursor)

    def _recheck(self, connection: psycopg.Connection[Any], staying: str) -> None:
        """Refuse if the locked table is not the one that the plan was made for."""
        difference = drift(connection, self.spec, self.plan)
        if difference:
            raise _changed(difference, staying)

    def _prove(self, connection: psycopg.Connection[Any], course: Course, staying: str) -> Proof:
        """Compare before and after; a difference fails the transaction."""
        before, after = course.tallies[Role.TALLY_BEFORE], course.tallies[Role.TALLY_AFTER]
        course.proof = proof = prove(before, after)
        if self._digests.found:
            statements = self.plan.of_phase(Phase.ATOMIC)
            course.proof = proof = self._digests.prove(
                proof, lambda: self._digests.rows(connection, statements)
            )
        if not proof.passed:
            same = "equal" if before.fingerprint == after.fingerprint else "different"
            more = f" {proof.different[0]}." if proof.different else ""
            raise RolledBack(
                f"The proof failed: {before.rows:,} rows before and {after.rows:,} after, "
                f"{after.wrong:,} of them with a label the rules do not give, fingerprints {same}."
                f"{more}",
                "The transaction was rolled back: the database is as it was. Something alters rows "
                f"while they are updated, most likely a trigger of the application.{staying}",
            )
        return proof

    def _record(self, connection: psycopg.Connection[Any], after: Tally, proof: Proof) -> None:
        """Write the run into the ledger, making it where it is not there yet, and wherever else."""
        for record in self.records:
            connection.execute(record(str(self.run_id)).encode())
        schema = self.catalog.ledger_schema
        connection.execute(create_ledger(schema).encode())
        require_own_ledger(connection, schema)
        measured: dict[str, sql.Composable] = {
            "run_id": sql.value(self.run_id),
            "client": sql.compose("nullif(current_setting('application_name'), '')"),
            "rows": sql.value(after.rows),
            "categories": json(dict(after.categories)),
            "algorithm": sql.value(proof.algorithm),
            "fingerprint": sql.value(proof.fingerprint_after),
            "hashes": sql.value(proof.hashes),
        }
        entry = record_run(schema, self.spec, self.plan, measured)
        connection.execute(entry.encode())

    def _commit(self, connection: psycopg.Connection[Any], staying: str) -> None:
        """Commit; if the answer is lost, ask the ledger whether it was done."""
        with rolling_back(connection, staying):
            pid = pid_of(connection)
        try:
            with rolling_back(connection, staying):
                connection.commit()
        except RolledBack:
            # COMMIT was sent: only the database knows what came of it, once the session is gone.
            connection.close()
            if not is_recorded(
                self.connect,
                self.catalog.ledger_schema,
                self.run_id,
                lost_pid=pid,
                wait_ms=max(self.wait_ms, 10_000),
            ):
                raise


def _changed(what: str, staying: str) -> RunbookError:
    refusal = RefusedError(
        f"The database changed after the plan was made: {what}.",
        "Nothing was changed. Review again; the new plan has another hash.",
    )
    return nothing_else(refusal, staying)
