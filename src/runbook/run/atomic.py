"""Atomic mode: one transaction that locks the table, changes it, proves it, and records itself."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import read_table, read_types
from runbook.errors import RefusedError, RolledBack, RunbookError
from runbook.facts import Catalog, Table
from runbook.plan import Plan, plan_facts
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.run.drift import first_difference
from runbook.run.exclusion import exclude_others
from runbook.run.tally import Proof, Tally, prove
from runbook.spec import Spec
from runbook.vocabulary import Lock, Phase, Role, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Progress = Callable[[Statement], None]


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A statement that ran; times in milliseconds."""

    sql: str
    title: str
    phase: str
    lock: str
    waited_ms: float
    """How long it waited for the table's lock."""
    held_ms: float
    """How long its lock was held: until the transaction ended."""
    duration_ms: float
    rows: int | None


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A run that is committed."""

    run_id: str
    statements: tuple[Executed, ...]
    before: Tally
    after: Tally
    proof: Proof
    locked_ms: float
    """How long the table was locked against the application."""


@dataclass
class _Course:
    """How far the transaction has come."""

    executed: list[tuple[Executed, float]] = field(default_factory=list)
    """Each with the moment since which its lock is held."""
    tallies: dict[Role, Tally] = field(default_factory=dict)
    locked_at: float | None = None

    def statements(self, ended_at: float) -> tuple[Executed, ...]:
        """Return what ran, with the time that locks were held until the transaction ended."""
        return tuple(
            replace(
                one,
                held_ms=_ms(ended_at - since)
                if one.lock != Lock.NONE and one.phase == Phase.ATOMIC
                else one.held_ms,
            )
            for one, since in self.executed
        )


def apply_atomic(
    connect: Connect,
    spec: Spec,
    catalog: Catalog,
    plan: Plan,
    *,
    run_id: uuid.UUID,
    wait_ms: int,
    progress: Progress = lambda statement: None,
) -> Applied:
    """Apply the plan, or leave the database as it was.

    Raises `RefusedError` when nothing was tried (another run, the lock not to be had, the table no
    longer as reviewed) and `RolledBack` when a statement or the proof failed. If the connection is
    lost while committing, a new one asks the ledger which of the two it was.
    """
    assert catalog.table is not None
    table, course = catalog.table, _Course()
    with connect() as connection:
        connection.autocommit = False
        prepared = _prepare(connection, table, plan, course, wait_ms, progress)
        with _rolling_back(connection, prepared):
            exclude_others(connection, table, wait_ms=wait_ms)
            _change(connection, spec, table, plan, course, progress)
            proof = _prove(course, prepared)
            _record(connection, spec, catalog, plan, course.tallies[Role.TALLY_AFTER], run_id, proof)
        _commit(connection, connect, catalog.ledger_schema, run_id, prepared)
    ended_at = time.monotonic()
    return Applied(
        run_id=str(run_id),
        statements=course.statements(ended_at),
        before=course.tallies[Role.TALLY_BEFORE],
        after=course.tallies[Role.TALLY_AFTER],
        proof=proof,
        locked_ms=_ms(ended_at - (course.locked_at or ended_at)),
    )


def _prepare(
    connection: psycopg.Connection[Any],
    table: Table,
    plan: Plan,
    course: _Course,
    wait_ms: int,
    progress: Progress,
) -> str:
    """Run what must commit before the rest; return what a failure afterwards must say of it."""
    statements = plan.of_phase(Phase.PREPARE)
    for statement in statements:
        with _rolling_back(connection, ""), connection.transaction():
            exclude_others(connection, table, wait_ms=wait_ms)
            progress(statement)
            connection.execute(f"SET LOCAL lock_timeout = {statement.lock_timeout_ms:d}".encode())
            _execute(connection, statement, course)
    done = "; ".join(statement.title for statement in statements)
    return f" Committed before, and staying: {done}." if done else ""


def _change(
    connection: psycopg.Connection[Any],
    spec: Spec,
    table: Table,
    plan: Plan,
    course: _Course,
    progress: Progress,
) -> None:
    """Run the transaction's statements; judge the table by its facts once it is locked."""
    for statement in plan.of_phase(Phase.ATOMIC):
        progress(statement)
        if statement.role is Role.LOCK:
            _lock(connection, statement, table, course)
            _recheck(connection, spec, plan)
            continue
        cursor = _execute(connection, statement, course)
        if statement.role in (Role.TALLY_BEFORE, Role.TALLY_AFTER):
            course.tallies[statement.role] = Tally.of(cursor)


def _execute(
    connection: psycopg.Connection[Any], statement: Statement, course: _Course
) -> psycopg.Cursor[Any]:
    """Execute a statement and note how long it took."""
    started = time.monotonic()
    cursor = connection.execute(statement.sql.encode())
    ended = time.monotonic()
    locking = statement.role is Role.LOCK
    if locking:
        course.locked_at = ended
    course.executed.append(
        (
            Executed(
                sql=statement.sql,
                title=statement.title,
                phase=statement.phase,
                lock=statement.lock,
                waited_ms=_ms(ended - started) if locking else 0.0,
                held_ms=0.0,
                duration_ms=_ms(ended - started),
                rows=cursor.rowcount if cursor.rowcount >= 0 else None,
            ),
            ended if locking else started,
        )
    )
    return cursor


def _lock(
    connection: psycopg.Connection[Any], statement: Statement, table: Table, course: _Course
) -> None:
    """Lock the table, or refuse and say who is in the way."""
    object_ = f"{table.schema}.{table.name}"
    try:
        _execute(connection, statement, course)
    except psycopg.errors.LockNotAvailable:
        connection.rollback()
        raise RefusedError(
            f"{object_} could not be locked within {statement.lock_timeout_ms:,} ms: "
            f"{_holders(connection, table)}.",
            "Nothing was changed. Run again when they are done, or allow a longer lock timeout.",
        ) from None
    except psycopg.errors.UndefinedTable:
        raise _changed(f"{object_} is no longer there") from None


def _recheck(connection: psycopg.Connection[Any], spec: Spec, plan: Plan) -> None:
    """Refuse if the locked table is not the one that the plan was made for."""
    table = read_table(connection, spec)
    if table is None:
        raise _changed(f"{plan.schema}.{plan.table_before} is no longer there")
    facts = plan_facts(table, read_types(connection, spec))
    if facts != plan.facts:
        raise _changed(first_difference(plan.facts, facts))


def _changed(what: str) -> RefusedError:
    return RefusedError(
        f"The database changed after the plan was made: {what}.",
        "Nothing was changed. Review again; the new plan has another hash.",
    )


def _holders(connection: psycopg.Connection[Any], table: Table) -> str:
    """Return who holds locks on the table, in words."""
    rows = connection.execute(_HOLDERS, [table.oid]).fetchall()
    return "; ".join(
        f"pid {pid} ({user}, {application!r}, {state}) holds {mode} for {age}"
        for pid, user, application, state, mode, age in rows
    ) or "whoever held it has just let go"


def _prove(course: _Course, prepared: str) -> Proof:
    """Compare both tallies; a difference fails the transaction."""
    before, after = course.tallies[Role.TALLY_BEFORE], course.tallies[Role.TALLY_AFTER]
    proof = prove(before, after)
    if not proof.passed:
        raise RolledBack(
            f"The proof failed: {before.rows:,} rows before and {after.rows:,} after, "
            f"{after.wrong:,} of them with a label that the rules do not give, fingerprints "
            f"{'equal' if before.fingerprint == after.fingerprint else 'different'}.",
            "The transaction was rolled back: the database is as it was. Something alters rows "
            f"while they are updated, most likely a trigger of the application.{prepared}",
        )
    return proof


def _record(
    connection: psycopg.Connection[Any],
    spec: Spec,
    catalog: Catalog,
    plan: Plan,
    after: Tally,
    run_id: uuid.UUID,
    proof: Proof,
) -> None:
    """Write the run into the ledger, making it where it is not there yet."""
    assert catalog.table is not None
    connection.execute(create_ledger(catalog.ledger_schema).encode())
    measured: dict[str, sql.Composable] = {
        "run_id": sql.value(run_id),
        "client": sql.compose("nullif(current_setting('application_name'), '')"),
        "rows": sql.value(after.rows),
        "categories": json(dict(after.categories)),
        "algorithm": sql.value(proof.algorithm),
        "fingerprint": sql.value(after.fingerprint),
    }
    entry = record_run(catalog.ledger_schema, spec, plan, catalog.table, measured)
    connection.execute(entry.encode())


@contextmanager
def _rolling_back(connection: psycopg.Connection[Any], prepared: str) -> Iterator[None]:
    """Roll the transaction back whatever goes wrong in it, saying so."""
    try:
        yield
    except RunbookError:
        _roll_back(connection)
        raise
    except (psycopg.Error, KeyboardInterrupt) as error:
        _roll_back(connection)
        raise RolledBack(
            _what_failed(error),
            f"The transaction was rolled back: the database is as it was.{prepared}",
        ) from error


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    """Roll back; a server that is gone has done so by itself."""
    if not connection.closed:
        try:
            connection.rollback()
        except psycopg.OperationalError:
            connection.close()


def _what_failed(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "The run was interrupted."
    assert isinstance(error, psycopg.Error)
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return "The connection to the server was lost."
    detail = f" {error.diag.message_detail}" if error.diag.message_detail else ""
    return f"A statement failed with {error.sqlstate}: {error.diag.message_primary}.{detail}"


def _commit(
    connection: psycopg.Connection[Any],
    connect: Connect,
    ledger_schema: str,
    run_id: uuid.UUID,
    prepared: str,
) -> None:
    """Commit; if the answer is lost, ask the ledger whether it was done."""
    try:
        with _rolling_back(connection, prepared):
            connection.commit()
    except RolledBack:
        if not connection.closed:
            raise
        if not _is_recorded(connect, ledger_schema, run_id):
            raise


def _is_recorded(connect: Connect, ledger_schema: str, run_id: uuid.UUID) -> bool:
    """Return whether the ledger holds the run. Raises `RunbookError` if nobody answers."""
    query = sql.render(
        "SELECT count(*) FROM {ledger} WHERE run_id = {run_id}",
        ledger=sql.name(ledger_schema, "ledger"),
        run_id=sql.value(run_id),
    )
    try:
        with connect() as connection:
            row = connection.execute(query.encode()).fetchone()
    except psycopg.errors.UndefinedTable:
        return False
    except (psycopg.OperationalError, RefusedError):
        raise RunbookError(
            "The connection was lost while committing, and the server does not answer: the "
            "migration is either whole or not there at all.",
            f"When the server is back, run again: it finds run {run_id} in the ledger, or applies "
            "the plan.",
        ) from None
    return bool(row and row[0])


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


_HOLDERS = """\
SELECT a.pid, a.usename, a.application_name, a.state, min(l.mode),
       date_trunc('second', clock_timestamp() - min(a.xact_start))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = %s AND l.granted AND a.pid <> pg_backend_pid()
GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC LIMIT 3"""
