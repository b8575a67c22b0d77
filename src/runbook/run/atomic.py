"""Atomic mode: one transaction that locks the table, changes it, proves it, and records itself."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import read_table, read_types
from runbook.database import require_utf8
from runbook.errors import RefusedError, RolledBack, RunbookError
from runbook.facts import Catalog, Table
from runbook.plan import Plan, plan_facts
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.run.course import Course, Executed
from runbook.run.drift import first_difference
from runbook.run.exclusion import exclude_others
from runbook.run.rollback import rolling_back
from runbook.run.tally import Proof, Tally, prove
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Progress = Callable[[Statement], None]


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
    progress: Progress = lambda statement: None,
    course: Course | None = None,
) -> Applied:
    """Apply the plan, or leave the database as it was.

    `wait_ms` is how long to wait for another run on the same table to end; `course` is where to
    note every statement that ran, for a caller that wants to know it of a failed run too.
    Raises `RefusedError` when nothing was tried (another run, the lock not to be had, the table no
    longer as reviewed) and `RolledBack` when a statement or the proof failed. If the connection is
    lost while committing, a new one asks the ledger which of the two it was.
    """
    assert catalog.table is not None
    run = _AtomicRun(connect, spec, catalog, catalog.table, plan, run_id, wait_ms, progress)
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
    progress: Progress

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
            tally_sql=self.plan.statements[-1].sql,
            proof=proof,
            locked_ms=course.locked_ms,
        )

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
                exclude_others(connection, self.table, wait_ms=self.wait_ms)
                self._change(connection, course, staying)
                proof = _prove(course, staying)
                self._record(connection, course.tallies[Role.TALLY_AFTER], proof)
            self._commit(connection, staying)
        return proof

    def _prepare(self, connection: psycopg.Connection[Any], course: Course) -> str:
        """Run what must commit before the rest; return what a later failure must say of it."""
        done: list[str] = []
        for statement in self.plan.of_phase(Phase.PREPARE):
            staying = f" Committed before, and staying: {'; '.join(done)}." if done else ""
            with rolling_back(connection, staying), connection.transaction():
                exclude_others(connection, self.table, wait_ms=self.wait_ms)
                self.progress(statement)
                timeout = f"SET LOCAL lock_timeout = {statement.lock_timeout_ms:d}"
                connection.execute(timeout.encode())
                course.execute(connection, statement)
            done.append(statement.title)
        return f" Committed before, and staying: {'; '.join(done)}." if done else ""

    def _change(self, connection: psycopg.Connection[Any], course: Course, staying: str) -> None:
        """Run the transaction's statements; judge the table by its facts once it is locked."""
        for statement in self.plan.of_phase(Phase.ATOMIC):
            self.progress(statement)
            if statement.role is Role.LOCK:
                self._lock(connection, statement, course, staying)
                self._recheck(connection, staying)
                continue
            cursor = course.execute(connection, statement)
            if statement.role in {Role.TALLY_BEFORE, Role.TALLY_AFTER}:
                course.tallies[statement.role] = Tally.of(cursor)

    def _lock(
        self,
        connection: psycopg.Connection[Any],
        statement: Statement,
        course: Course,
        staying: str,
    ) -> None:
        """Lock the table, or refuse and say who is in the way."""
        object_ = f"{self.table.schema}.{self.table.name}"
        try:
            course.execute(connection, statement)
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            raise _nothing_done(
                f"Table {object_} could not be locked within {statement.lock_timeout_ms:,} ms: "
                f"{_holders(connection, self.table)}.",
                "Run again when they are done, or raise the lock timeout.",
                staying,
            ) from None
        except psycopg.errors.UndefinedTable:
            raise _changed(f"table {object_} is no longer there", staying) from None

    def _recheck(self, connection: psycopg.Connection[Any], staying: str) -> None:
        """Refuse if the locked table is not the one that the plan was made for."""
        table = read_table(connection, self.spec)
        if table is None:
            name = f"{self.table.schema}.{self.table.name}"
            raise _changed(f"table {name} is no longer there", staying)
        types = read_types(connection, self.spec)
        facts = self._extended(plan_facts(table, types))
        expected = self._extended(self.plan.facts)
        if facts != expected:
            raise _changed(first_difference(expected, facts), staying)

    def _extended(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return facts as they are once the plan's own labels are added to existing types."""
        before = self.plan.facts["types"]
        labels = {tuple(before[name]["labels"]): new for name, new in self.plan.extended.items()}

        def extended(fact: Mapping[str, Any]) -> dict[str, Any]:
            return {**fact, "labels": list(labels.get(tuple(fact["labels"]), fact["labels"]))}

        return {
            "table": {
                **facts["table"],
                "columns": [extended(c) for c in facts["table"]["columns"]],
            },
            "types": {name: extended(type_) for name, type_ in facts["types"].items()},
        }

    def _record(self, connection: psycopg.Connection[Any], after: Tally, proof: Proof) -> None:
        """Write the run into the ledger, making it where it is not there yet."""
        schema = self.catalog.ledger_schema
        connection.execute(create_ledger(schema).encode())
        measured: dict[str, sql.Composable] = {
            "run_id": sql.value(self.run_id),
            "client": sql.compose("nullif(current_setting('application_name'), '')"),
            "rows": sql.value(after.rows),
            "categories": json(dict(after.categories)),
            "algorithm": sql.value(proof.algorithm),
            "fingerprint": sql.value(after.fingerprint),
        }
        entry = record_run(schema, self.spec, self.plan, self.table, measured)
        connection.execute(entry.encode())

    def _commit(self, connection: psycopg.Connection[Any], staying: str) -> None:
        """Commit; if the answer is lost, ask the ledger whether it was done."""
        try:
            with rolling_back(connection, staying):
                connection.commit()
        except RolledBack:
            # COMMIT was sent: only the database knows what came of it.
            if not self._is_recorded():
                raise

    def _is_recorded(self) -> bool:
        """Return whether the ledger holds the run. Raises `RunbookError` if nobody answers."""
        query = sql.render(
            "SELECT count(*) FROM {ledger} WHERE run_id = {run_id}",
            ledger=sql.name(self.catalog.ledger_schema, "ledger"),
            run_id=sql.value(self.run_id),
        )
        try:
            with self.connect() as connection, connection.transaction():
                # The lost session holds this lock until its transaction has ended, whichever way.
                exclude_others(connection, self.table, wait_ms=max(self.wait_ms, 10_000))
                row = connection.execute(query.encode()).fetchone()
        except psycopg.errors.UndefinedTable:
            return False
        except (psycopg.Error, RefusedError):
            raise RunbookError(
                "The connection was lost while committing, and the server does not answer: the "
                "migration is either whole or not there at all.",
                f"When the server is back, run again: it finds run {self.run_id} in the ledger, or "
                "applies the plan.",
            ) from None
        return bool(row and row[0])


def _prove(course: Course, staying: str) -> Proof:
    """Compare both tallies; a difference fails the transaction."""
    before, after = course.tallies[Role.TALLY_BEFORE], course.tallies[Role.TALLY_AFTER]
    proof = prove(before, after)
    if not proof.passed:
        same = "equal" if before.fingerprint == after.fingerprint else "different"
        raise RolledBack(
            f"The proof failed: {before.rows:,} rows before and {after.rows:,} after, "
            f"{after.wrong:,} of them with a label the rules do not give, fingerprints {same}.",
            "The transaction was rolled back: the database is as it was. Something alters rows "
            f"while they are updated, most likely a trigger of the application.{staying}",
        )
    return proof


def _changed(what: str, staying: str) -> RunbookError:
    return _nothing_done(
        f"The database changed after the plan was made: {what}.",
        "Review again; the new plan has another hash.",
        staying,
    )


def _nothing_done(message: str, remedy: str, staying: str) -> RunbookError:
    """Return a refusal, or what is true where something was committed before already."""
    if staying:
        return RolledBack(message, f"{remedy} Nothing else was changed.{staying}")
    return RefusedError(message, f"Nothing was changed. {remedy}")


def _holders(connection: psycopg.Connection[Any], table: Table) -> str:
    """Return who holds locks on the table, in words."""
    rows = connection.execute(_HOLDERS, [table.oid]).fetchall()
    said = "; ".join(
        f"pid {pid} ({user}, {application!r}, {state}) holds {mode} for {age}"
        for pid, user, application, state, mode, age in rows
    )
    return said or "whoever held it has just let go"


_HOLDERS = """\
SELECT a.pid, a.usename, a.application_name, a.state, min(l.mode),
       date_trunc('second', clock_timestamp() - min(a.xact_start))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = %s AND l.granted AND a.pid <> pg_backend_pid()
GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC LIMIT 3"""
