"""Online mode: expand, backfill, index, cutover, each step noted in the ledger as it is done."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog.ledger import read_unfinished
from runbook.catalog.written import written
from runbook.database import require_utf8
from runbook.errors import (
    CannotResume,
    ChecksFailed,
    RefusedError,
    RolledBack,
    RunbookError,
    RunInProgress,
    Stopped,
)
from runbook.facts import Catalog, Table, Unfinished
from runbook.operations.base import taking_back
from runbook.operations.fingerprint import ROW_HASH
from runbook.plan import Plan, progress
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.run.atomic import Record
from runbook.run.course import Course
from runbook.run.drift import drift
from runbook.run.dropping import dropped, still_there
from runbook.run.online.backfill import Swept
from runbook.run.online.desk import Desk
from runbook.run.online.guard import guarded, unhurried
from runbook.run.online.indexing import Indexing, state_of
from runbook.run.online.journal import Journal
from runbook.run.online.pace import Limits, Pace
from runbook.run.online.rows import Rows
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.online.watch import Watch
from runbook.run.online.whole import Whole
from runbook.run.recorded import is_recorded
from runbook.run.rollback import committed_before, nothing_else, what_failed
from runbook.run.tally import Proof
from runbook.spec import Spec
from runbook.trust.ledger import require_own_ledger
from runbook.vocabulary import Phase, Role, State, Statement

Connect = Callable[[], psycopg.Connection[Any]]
Tell = Callable[[Phase, str, float], None]

ALGORITHM = f"sum over the rows updated, each batch in its own transaction, of {ROW_HASH}"

RESUME = (
    "What is done stays and the application goes on as before. Run again to resume, or `runbook "
    "rollback` to take it back; `runbook status` says where it is."
)


@dataclass(frozen=True, kw_only=True)
class AppliedOnline:
    """An online run that is complete."""

    run_id: str
    rows: int
    """Rows that the last sweep counted."""
    updated: int
    """Rows that were updated, by all runs of it."""
    proof: Proof
    """Of the whole table where nobody else wrote, else of the rows that were updated, each in its
    batch."""


def apply_online(
    connect: Connect,
    spec: Spec,
    catalog: Catalog,
    plan: Plan,
    *,
    run_id: uuid.UUID,
    wait_ms: int,
    limits: Limits,
    journal: Journal,
    tell: Tell = lambda phase, text, share: None,
    records: Sequence[Record] = (),
) -> AppliedOnline:
    """Apply the plan while the application goes on, or go on with the run that was stopped.

    `wait_ms` is how long to wait for another run on the same table to end; `records` make
    statements, each of the run's id, by which others record it at the cutover. Raises
    `RefusedError` or `RolledBack` while nothing has been changed, and `Stopped` from then on: what
    was committed stays, and the next call goes on there.
    """
    assert catalog.table is not None
    run = _OnlineRun(
        connect, spec, catalog, catalog.table, plan, run_id, wait_ms, limits, journal, tell, records
    )
    return run.apply()


@dataclass
class _OnlineRun:
    """One run, and what it works on."""

    connect: Connect
    spec: Spec
    catalog: Catalog
    table: Table
    plan: Plan
    run_id: uuid.UUID
    wait_ms: int
    limits: Limits
    journal: Journal
    tell: Tell
    records: Sequence[Record]
    _phase: Phase = Phase.PREPARE
    """Where it is; from the backfill on something is committed."""
    _is_done: bool = False
    """Whether the cutover is committed."""
    _pace: Pace = field(init=False)
    _desk: Desk = field(init=False)
    _indexes: tuple[Statement, ...] = ()
    """What was built, and must be there at the cutover."""

    def __post_init__(self) -> None:
        self._pace = Pace(self.limits, self.journal)
        connect = self.connect
        self.connect = lambda: unhurried(connect)
        if self.catalog.unfinished:
            self.run_id = uuid.UUID(self.catalog.unfinished.run_id)
            self._phase = Phase.BACKFILL
        self._desk = Desk(
            connect=self.connect,
            spec=self.spec,
            plan=self.plan,
            table=self.table,
            run_id=str(self.run_id),
        )

    def apply(self) -> AppliedOnline:
        """Do all of it, or what is left of it."""
        with (
            self._failing_well(),
            guarded(self.connect, self.table, wait_ms=self.wait_ms) as guard_pid,
            self.connect() as watcher,
        ):
            require_utf8(watcher)
            watch = Watch(watcher, guard_pid, self._pace, self.journal)
            at_start = self.catalog.written or written(watcher, self.table.oid)
            if self._is_resumed(watcher):
                self._adopt()
                # Its statements are made of facts that the ledger had: they must still be so.
                with watcher.transaction():
                    self._judge(watcher)
            else:
                self._expand(watch)
            with self._in(Phase.BACKFILL):
                whole = Whole(
                    self._desk, watch, at_start, lambda text: self.tell(Phase.CUTOVER, text, 1.0)
                )
                rows = Rows(self._desk, watch, self.tell, whole)
                rows.backfill()
            self._index(watch, whole)
            with self._in(Phase.CUTOVER):
                swept = rows.sweep()
                done = self._desk.so_far(watcher)
                proof = whole.proof(_proof(done))
                self._cutover(watch, rows, swept, proof)
                self._make_durable()
        return AppliedOnline(
            run_id=str(self.run_id), rows=swept.rows, updated=done.rows, proof=proof
        )

    def _is_resumed(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether there is something to resume. Raises `RefusedError` if that is not what
        the catalog said: another run came between."""
        found = read_unfinished(connection, self.plan.ledger_schema, self.spec)
        known = self.catalog.unfinished
        if (found and found.run_id) != (known and known.run_id):
            raise RefusedError(
                f"Another run has worked on {self.table.schema}.{self.table.name} since it was "
                "looked at.",
                "This run changed nothing. Run again: it goes by what the ledger says then.",
            )
        if found is not None:
            names = ("run_id", "started_at", "started_by", "phase", "blocks_done", "blocks", "rows")
            self.journal.resumed = {name: getattr(found, name) for name in names}
        return found is not None

    def _adopt(self) -> None:
        """Have a run whose database was restored from a dump since go on with its table there."""
        unfinished = self.catalog.unfinished
        if unfinished and unfinished.is_restored:
            left = self._desk.statements(Phase.BACKFILL)
            batches = [
                one for one in left if one.role is Role.BATCH and unfinished.phase == Phase.BACKFILL
            ]
            self._desk.execute(
                progress.adopt_run(
                    self.plan.ledger_schema, str(self.run_id), self.table.oid, batches
                )
            )

    # -- how it fails --------------------------------------------------------------------------

    @contextmanager
    def _failing_well(self) -> Iterator[None]:
        """Say of every failure in which state it leaves the database."""
        try:
            yield
        except (RunbookError, psycopg.Error, KeyboardInterrupt) as error:
            cause = None if isinstance(error, RunbookError) else error
            raise self._failure(error) from cause

    def _failure(self, error: BaseException) -> BaseException:
        """Return what an error means for the database as it is now."""
        message = error.message if isinstance(error, RunbookError) else what_failed(error)
        if self._is_done:
            return ChecksFailed(
                message,
                "The migration is applied and proved, but not every check could be asked: run "
                "`runbook verify`.",
            )
        if isinstance(error, RunInProgress | CannotResume):
            return error  # this run has done nothing, or says all itself
        if isinstance(error, Stopped):
            return Stopped(message, f"{error.remedy} {RESUME}".strip())
        if self._is_begun:
            where = "" if isinstance(error, RunbookError) else f" It was at {self._phase}."
            return Stopped(f"{message}{where}", RESUME)
        if isinstance(error, RunbookError):
            return nothing_else(error, self._staying())
        return RolledBack(
            message, f"It was rolled back: the database is as it was.{self._staying()}"
        )

    def _staying(self) -> str:
        """Return what is to be said of what was committed before the first transaction."""
        return committed_before(
            [one.title for one in self.journal.executed if one.phase == Phase.PREPARE]
        )

    @property
    def _is_begun(self) -> bool:
        return self._phase not in {Phase.PREPARE, Phase.EXPAND}

    # -- expand --------------------------------------------------------------------------------

    def _expand(self, watch: Watch) -> None:
        """Add what the application does not know yet, and note the run, in one transaction."""
        with self._in(Phase.PREPARE):
            for statement in self._desk.statements(Phase.PREPARE):
                with self.connect() as connection:
                    course = Course()
                    course.execute(connection, statement)
                    self.journal.executed += course.statements()
        schema, run_id = self.plan.ledger_schema, str(self.run_id)
        with self._in(Phase.EXPAND):
            try:
                self._short(watch).run(
                    Transaction(
                        phase=Phase.EXPAND,
                        statements=self._desk.statements(Phase.EXPAND),
                        prelude=(create_ledger(schema), progress.create_progress(schema)),
                        judge=self._judge_expand,
                        finale=(progress.start_run(schema, run_id, self.plan, self.table.oid),),
                        committed=self._begin,
                    )
                )
            except LostCommit:
                raise Stopped(
                    "The connection was lost while the first transaction was committed: it is "
                    "either whole or not there at all.",
                    "",
                ) from None

    def _begin(self) -> None:
        self._phase = Phase.BACKFILL

    def _judge_expand(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse as `_judge` does, and where an index that is to be built is there already: a
        rollback would take it for the run's own."""
        self._judge(connection)
        for statement in self.plan.of_phase(Phase.INDEX):
            if state_of(connection, statement) is not State.ABSENT:
                raise RefusedError(
                    f"{statement.title}: its name is taken already.",
                    "Nothing was changed. Rename or drop that, then review again.",
                )

    def _judge(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a table that is not the one that the plan was made for."""
        require_own_ledger(connection, self.plan.ledger_schema)
        difference = drift(connection, self.spec, self.plan, is_expanded=self._is_begun)
        if difference:
            raise RefusedError(
                f"The database changed after the plan was made: {difference}.",
                "Nothing was changed. Review again; the new plan has another hash.",
            )
        if self._is_begun:
            self._require_own(connection)

    def _require_own(self, connection: psycopg.Connection[Any]) -> None:
        """Raise `CannotResume` where somebody has dropped what the run added: rows were written
        since that nobody classified."""
        removing = [*taking_back(self.plan.of_phase(Phase.EXPAND))]
        there = still_there(connection, removing)
        gone = [one for one in map(dropped, (s for s in removing if s not in there)) if one]
        if gone:
            names = ", ".join(f"{one.kind.lower()} {one.name}" for one in gone)
            raise CannotResume(
                f"Somebody has dropped what the run had added to {self.table.schema}."
                f"{self.table.name}: {names}. It was at {self._phase}, and cannot go on.",
                "`runbook rollback` takes back what is left of it; then migrate anew.",
            )

    # -- index ---------------------------------------------------------------------------------

    def _index(self, watch: Watch, whole: Whole) -> None:
        """Build the indexes while the application writes."""
        with self._in(Phase.INDEX), whole.counting_again():
            indexing = Indexing(
                connect=self.connect,
                watch=watch,
                max_wait_s=self.limits.max_wait_ms / 1000,
                tell=lambda text, share: self.tell(Phase.INDEX, text, share),
            )
            self._indexes = self._desk.statements(Phase.INDEX)
            for statement in self._indexes:
                executed = indexing.build(statement)
                if executed:
                    self.journal.executed.append(executed)
            self._desk.enter(Phase.CUTOVER)

    # -- cutover -------------------------------------------------------------------------------

    def _cutover(self, watch: Watch, rows: Rows, swept: Swept, proof: Proof) -> None:
        """Make it what the spec says, and record that, in one transaction."""
        schema = self.plan.ledger_schema
        measured: dict[str, sql.Composable] = {
            "run_id": sql.value(self.run_id),
            "client": sql.compose("nullif(current_setting('application_name'), '')"),
            "rows": sql.value(swept.rows),
            "categories": json(swept.categories),
            "algorithm": sql.value(proof.algorithm),
            "fingerprint": sql.value(proof.fingerprint_after),
            "hashes": sql.value(proof.hashes),
        }
        try:
            self._short(watch).run(
                Transaction(
                    phase=Phase.CUTOVER,
                    statements=self._desk.statements(Phase.CUTOVER),
                    judge=lambda connection: self._judge_cutover(connection, rows),
                    finale=(
                        *(record(str(self.run_id)) for record in self.records),
                        record_run(schema, self.spec, self.plan, measured),
                        progress.end_run(schema, str(self.run_id), "applied"),
                    ),
                    committed=self._finish,
                )
            )
        except LostCommit as lost:
            if not is_recorded(
                self.connect,
                schema,
                self.run_id,
                lost_pid=lost.pid,
                wait_ms=max(self.wait_ms, 10_000),
            ):
                raise Stopped("The connection was lost while committing.", "") from None
            self._finish()

    def _finish(self) -> None:
        self._is_done = True

    def _make_durable(self) -> None:
        """Commit once more, as the server is told to for what must not be lost: with a replica,
        where one is waited for. Nobody waits for a lock of the run meanwhile."""
        touch = progress.end_run(self.plan.ledger_schema, str(self.run_id), "applied")
        self._desk.execute(f"SET LOCAL synchronous_commit = on;\n{touch}")

    def _judge_cutover(self, connection: psycopg.Connection[Any], rows: Rows) -> None:
        """Refuse a table that somebody else has changed, and one whose index is not there."""
        self._judge(connection)
        for statement in self._indexes:
            if state_of(connection, statement) is not State.DONE:
                raise Stopped(f"{statement.title}: it is gone, or not valid.", "")
        rows.refuse_renamed(connection)
        names = list(self.plan.adds.get("before_triggers", ()))
        for trigger, table in connection.execute(_ASLEEP, [self.table.oid, names]).fetchall():
            raise Stopped(
                f"Trigger {trigger!r} of {table}, which classifies what is written, is disabled, "
                "or was for a while.",
                f'Enable it (ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{trigger}"); what was '
                "written meanwhile is found by the next run.",
            )

    # -- parts ---------------------------------------------------------------------------------

    @contextmanager
    def _in(self, phase: Phase) -> Iterator[None]:
        """Be in a phase."""
        self._phase = phase
        with self.journal.phase(phase):
            self.tell(phase, "begins", 0.0)
            yield

    def _short(self, watch: Watch) -> Short:
        return Short(
            connect=self.connect,
            table=self.table,
            journal=self.journal,
            max_wait_s=self.limits.max_wait_ms / 1000,
            tell=self.tell,
            check=watch.still_guarded,
        )


def _proof(done: Unfinished) -> Proof:
    """Return the proof over all rows that were updated, by all runs of it."""
    return Proof(
        algorithm=ALGORITHM,
        rows_before=done.rows,
        rows_after=done.rows,
        fingerprint_before=done.hashes_before,
        fingerprint_after=done.hashes_after,
        passed=done.hashes_before == done.hashes_after,
        covers="updated rows",
        says=f"Each of the {done.rows:,} rows that the run updated is as it was, in every column "
        "that existed before, and the run wrote no other row.",
        batches={
            "rows": done.rows,
            "hashes_before": done.hashes_before,
            "hashes_after": done.hashes_after,
        },
    )


_ASLEEP = """\
SELECT tgname::text, tgrelid::regclass::text
FROM pg_trigger, (SELECT %s::oid AS root) AS of
WHERE (tgrelid = root OR tgrelid IN (SELECT relid FROM pg_partition_tree(root::regclass)))
  AND tgname = ANY (%s) AND tgenabled <> 'A'"""
