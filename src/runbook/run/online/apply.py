"""Online mode: expand, backfill, index, cutover, each step noted in the ledger as it is done."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.catalog import read_table, snapshot
from runbook.catalog.ledger import read_unfinished
from runbook.database import require_utf8
from runbook.errors import (
    ChecksFailed,
    RefusedError,
    RolledBack,
    RunbookError,
    RunInProgress,
    Stopped,
)
from runbook.facts import Catalog, Span, Table, Unfinished
from runbook.operations.fingerprint import ROW_HASH
from runbook.plan import Plan, progress
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.run.course import Course
from runbook.run.drift import drift
from runbook.run.holders import holders, said
from runbook.run.online.backfill import Backfill, Left, Moved, Swept
from runbook.run.online.guard import guarded, unhurried
from runbook.run.online.indexing import Indexing, state_of
from runbook.run.online.journal import Journal
from runbook.run.online.pace import Limits, Pace
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.online.watch import Watch
from runbook.run.patience import Patience
from runbook.run.recorded import is_recorded
from runbook.run.rollback import committed_before, what_failed
from runbook.run.tally import Proof
from runbook.settings import for_reading
from runbook.spec import Spec
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
    proof: Proof
    """Of the rows that were updated, each proved in its batch."""


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
) -> AppliedOnline:
    """Apply the plan while the application goes on, or go on with the run that was stopped.

    `wait_ms` is how long to wait for another run on the same table to end. Raises `RefusedError`
    or `RolledBack` while nothing has been changed, and `Stopped` from then on: what was committed
    stays, and the next call goes on there.
    """
    assert catalog.table is not None
    run = _OnlineRun(
        connect, spec, catalog, catalog.table, plan, run_id, wait_ms, limits, journal, tell
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
    _phase: Phase = Phase.PREPARE
    """Where it is; from the backfill on something is committed."""
    _is_done: bool = False
    """Whether the cutover is committed."""
    _pace: Pace = field(init=False)
    _indexes: tuple[Statement, ...] = ()
    """What was built, and must be there at the cutover."""

    def __post_init__(self) -> None:
        self._pace = Pace(self.limits, self.journal)
        connect = self.connect
        self.connect = lambda: unhurried(connect)
        if self.catalog.unfinished:
            self.run_id = uuid.UUID(self.catalog.unfinished.run_id)
            self._phase = Phase.BACKFILL

    def apply(self) -> AppliedOnline:
        """Do all of it, or what is left of it."""
        with (
            self._failing_well(),
            guarded(self.connect, self.table, wait_ms=self.wait_ms) as guard_pid,
            self.connect() as watcher,
        ):
            require_utf8(watcher)
            watch = Watch(watcher, guard_pid, self._pace, self.journal)
            if not self._is_resumed(watcher):
                self._expand(watch)
            work = self._backfill(watch)
            self._index(watch)
            with self._in(Phase.CUTOVER):
                swept = self._sweep_until_clean(watch, work)
                done = self._so_far(watcher)
                self._cutover(watch, swept, done)
                self._make_durable()
        return AppliedOnline(run_id=str(self.run_id), rows=swept.rows, proof=_proof(done))

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

    def _so_far(self, connection: psycopg.Connection[Any]) -> Unfinished:
        """Return how far the ledger says that the run is."""
        found = read_unfinished(connection, self.plan.ledger_schema, self.spec)
        if found is None or found.run_id != str(self.run_id):
            raise Stopped(
                f"Run {self.run_id} is no longer in the ledger, or its table is gone.", ""
            )
        return found

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
        if isinstance(error, Stopped):
            return Stopped(message, f"{error.remedy} {RESUME}".strip())
        if isinstance(error, RunInProgress):
            return error  # this run has done nothing
        if self._is_begun:
            where = "" if isinstance(error, RunbookError) else f" It was at {self._phase}."
            return Stopped(f"{message}{where}", RESUME)
        if isinstance(error, RunbookError):
            return _nothing_else(error, self._staying())
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
            for statement in self._of(Phase.PREPARE):
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
                        statements=self._of(Phase.EXPAND),
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
        difference = drift(connection, self.spec, self.plan, is_expanded=self._is_begun)
        if difference:
            raise RefusedError(
                f"The database changed after the plan was made: {difference}.",
                "Nothing was changed. Review again; the new plan has another hash.",
            )

    # -- backfill ------------------------------------------------------------------------------

    def _backfill(self, watch: Watch) -> Backfill:
        """Classify every row that was there before the triggers; return what did it."""
        with self._in(Phase.BACKFILL):
            so_far = self._so_far(watch.connection)
            work = self._work(watch, so_far)
            self.journal.begin_backfill()
            if so_far.phase == Phase.BACKFILL:
                try:
                    self._work_all(watch, work, so_far)
                finally:
                    self.journal.executed += work.executed()
                self._execute(
                    progress.enter_phase(self.plan.ledger_schema, str(self.run_id), Phase.INDEX)
                )
            return work

    def _work(self, watch: Watch, so_far: Unfinished) -> Backfill:
        settings = [one.sql for one in self._of(Phase.BACKFILL) if one.role is Role.SETTING]
        return Backfill(
            connect=self.connect,
            ledger_schema=self.plan.ledger_schema,
            run_id=str(self.run_id),
            settings=";\n".join(settings),
            batches=dict(self._batches(watch.connection, Role.BATCH)),
            redos=dict(self._batches(watch.connection, Role.REDO)),
            journal=self.journal,
            pace=self._pace,
            watch=watch,
            tell=lambda text, share: self.tell(Phase.BACKFILL, text, share),
            blocks=so_far.blocks,
        )

    def _batches(
        self, connection: psycopg.Connection[Any], role: Role
    ) -> Iterator[tuple[int, Statement]]:
        """Yield the batches with the OIDs of the tables that they are for."""
        for one in self._of(Phase.BACKFILL):
            if one.role is role:
                query = sql.render("SELECT {oid}::oid::bigint", oid=progress.oid_of(one))
                yield _one(connection, query), one

    def _work_all(self, watch: Watch, work: Backfill, so_far: Unfinished) -> None:
        """Work through all blocks, and from the start again whenever the table was rewritten."""
        while True:
            self._refuse_renamed(watch.connection)
            spans = self._spans([one for one in so_far.spans if one.table_oid in work.batches])
            work.blocks, work.done = so_far.blocks, so_far.blocks_done
            try:
                work.work(spans)
                return
            except Moved as moved:
                so_far = self._restarted(watch, moved.table_oid)

    def _restarted(self, watch: Watch, table_oid: int) -> Unfinished:
        """Have the backfill of a table begin again over its blocks as they lie now; return how far
        that is."""
        watch.still_guarded()
        self._pace.stopping.clear()
        self.tell(Phase.BACKFILL, "the table was rewritten meanwhile: it starts over", 0.0)
        self._execute(
            progress.restart_backfill(self.plan.ledger_schema, str(self.run_id), table_oid)
        )
        return self._so_far(watch.connection)

    def _spans(self, spans: list[Span]) -> list[Span]:
        """Return what is left to do, in at least as many spans as there are jobs."""
        left = [span for span in spans if not span.is_done]
        while left and len(left) < self.limits.jobs:
            widest = max(left, key=lambda span: span.end_block - span.next_block)
            middle = (widest.next_block + widest.end_block) // 2
            if middle == widest.next_block:
                break
            left.remove(widest)
            left += [
                replace(widest, end_block=middle),
                self._add_span(
                    widest.table_oid,
                    middle,
                    widest.end_block,
                    progress.cut_span(
                        self.plan.ledger_schema, str(self.run_id), widest.span, middle
                    ),
                ),
            ]
        return left

    def _add_span(self, table_oid: int, first: int, end: int, *also: str) -> Span:
        """Note a range that is to be done, and whatever else must be in the same transaction."""
        add = progress.add_span(self.plan.ledger_schema, str(self.run_id), table_oid, first, end)
        row = self._execute(";\n".join((add, *also)))
        assert row is not None
        return Span(
            span=row[0],
            table_oid=table_oid,
            filenode=row[1],
            first_block=first,
            next_block=first,
            end_block=end,
        )

    def _sweep_until_clean(self, watch: Watch, work: Backfill) -> Swept:
        """Count the rows; work on those that batches left out because somebody had locked them, or
        that were written while the triggers were not at work."""
        patience = Patience(self.limits.max_wait_ms / 1000)
        while (swept := self._sweep()).wrong:
            self.tell(Phase.CUTOVER, f"{swept.wrong:,} rows were left out: once more", 0.0)
            if not patience.pause():
                blockers = holders(watch.connection, self.table.oid)
                raise Stopped(
                    f"{swept.wrong:,} rows could not be classified for "
                    f"{self.limits.max_wait_ms / 1000:,.1f} s: they are locked, or something of "
                    f"the application gives them another label. {said(blockers)}.",
                    "Run again when they are let go.",
                )
            try:
                work.work(
                    [
                        self._add_span(one.table_oid, one.first, one.end)
                        for one in swept.left
                        if one.table_oid in work.redos
                    ],
                    redo=True,
                )
            except Moved as moved:
                self._work_all(watch, work, self._restarted(watch, moved.table_oid))
            finally:
                self.journal.executed += work.executed()
        return swept

    def _sweep(self) -> Swept:
        """Count the rows by label, in a transaction that takes no lock but that of a reader."""
        statements = [one for one in self._of(Phase.BACKFILL) if one.role is Role.SWEEP]
        with self.connect() as connection, snapshot(connection):
            connection.execute(for_reading(self.plan.schema).encode())
            if not statements:
                counted = _one(connection, _count(self.plan))
                return Swept(rows=counted, categories={}, wrong=0, left=())
            course = Course()
            lines = course.execute(connection, statements[0]).fetchall()
            self.journal.executed += course.statements()
        return _swept(lines)

    # -- index ---------------------------------------------------------------------------------

    def _index(self, watch: Watch) -> None:
        """Build the indexes while the application writes."""
        with self._in(Phase.INDEX):
            indexing = Indexing(
                connect=self.connect,
                watch=watch,
                max_wait_s=self.limits.max_wait_ms / 1000,
                tell=lambda text, share: self.tell(Phase.INDEX, text, share),
            )
            self._indexes = self._of(Phase.INDEX)
            for statement in self._indexes:
                executed = indexing.build(statement)
                if executed:
                    self.journal.executed.append(executed)
            self._execute(
                progress.enter_phase(self.plan.ledger_schema, str(self.run_id), Phase.CUTOVER)
            )

    # -- cutover -------------------------------------------------------------------------------

    def _cutover(self, watch: Watch, swept: Swept, done: Unfinished) -> None:
        """Make it what the spec says, and record that, in one transaction."""
        schema = self.plan.ledger_schema
        proof = _proof(done)
        measured: dict[str, sql.Composable] = {
            "run_id": sql.value(self.run_id),
            "client": sql.compose("nullif(current_setting('application_name'), '')"),
            "rows": sql.value(swept.rows),
            "categories": json(swept.categories),
            "algorithm": sql.value(proof.algorithm),
            "fingerprint": sql.value(proof.fingerprint_after),
        }
        try:
            self._short(watch).run(
                Transaction(
                    phase=Phase.CUTOVER,
                    statements=self._of(Phase.CUTOVER),
                    judge=self._judge_cutover,
                    finale=(
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
        self._execute(f"SET LOCAL synchronous_commit = on;\n{touch}")

    def _judge_cutover(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a table that somebody else has changed, and one whose index is not there."""
        self._judge(connection)
        for statement in self._indexes:
            if state_of(connection, statement) is not State.DONE:
                raise Stopped(f"{statement.title}: it is gone, or not valid.", "")
        self._refuse_renamed(connection)
        names = list(self.plan.adds.get("before_triggers", ()))
        for trigger, table in connection.execute(_ASLEEP, [self.table.oid, names]).fetchall():
            raise Stopped(
                f"Trigger {trigger!r} of {table}, which classifies what is written, is disabled, "
                "or was for a while.",
                f'Enable it (ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{trigger}"); what was '
                "written meanwhile is found by the next run.",
            )

    def _refuse_renamed(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a partition under another name than the plan knows it by."""
        known = {one.table for one in self.plan.statements if one.role is Role.BATCH}
        query = sql.render(
            _LEAVES,
            spans=sql.name(self.plan.ledger_schema, progress.SPANS),
            run_id=sql.value(self.run_id),
            oid=sql.value(self.table.oid),
        )
        for schema, name in connection.execute(query.encode()).fetchall():
            if known and (schema, name) not in known:
                raise Stopped(
                    f"Partition {schema}.{name} had another name when the run began.",
                    "Give it back for the time of the migration.",
                )

    # -- parts ---------------------------------------------------------------------------------

    @contextmanager
    def _in(self, phase: Phase) -> Iterator[None]:
        """Be in a phase."""
        self._phase = phase
        with self.journal.phase(phase):
            self.tell(phase, "begins", 0.0)
            yield

    def _of(self, phase: Phase) -> tuple[Statement, ...]:
        """Return the statements of a phase, without those for partitions that are gone."""
        statements = self.plan.of_phase(phase)
        if not any(one.table for one in statements):
            return statements
        with self.connect() as connection, connection.transaction():
            table = read_table(connection, self.spec)
        leaves = table.leaves if table else ()
        return tuple(one for one in statements if one.table is None or one.table in leaves)

    def _short(self, watch: Watch) -> Short:
        return Short(
            connect=self.connect,
            table=self.table,
            journal=self.journal,
            max_wait_s=self.limits.max_wait_ms / 1000,
            tell=self.tell,
            check=watch.still_guarded,
        )

    def _execute(self, text: str) -> Any:
        """Execute statements of the ledger in one transaction; return the first row, if any."""
        with self.connect() as connection, connection.transaction():
            cursor = connection.execute(text.encode())
            return cursor.fetchone() if cursor.description else None


def _swept(lines: list[tuple[Any, ...]]) -> Swept:
    """Return what the sweep's rows (label, table, rows, wrong, first, last) say in all."""
    categories: dict[str, int] = {}
    bounds: dict[int, tuple[int, int]] = {}
    for label, table_oid, rows, wrong, first, last in lines:
        categories[label] = categories.get(label, 0) + rows
        if wrong:
            before = bounds.get(table_oid, (first, last))
            bounds[table_oid] = min(first, before[0]), max(last, before[1])
    return Swept(
        rows=sum(line[2] for line in lines),
        categories=categories,
        wrong=sum(line[3] for line in lines),
        left=tuple(
            Left(table_oid=oid, first=first, end=last + 1) for oid, (first, last) in bounds.items()
        ),
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
    )


def _nothing_else(error: RunbookError, staying: str) -> RunbookError:
    """Return a refusal, or what is true where something was committed before already."""
    if not staying or not isinstance(error, RefusedError):
        return error
    remedy = error.remedy.replace("Nothing was changed", "Nothing else was changed")
    return RolledBack(error.message, f"{remedy}{staying}")


def _count(plan: Plan) -> str:
    return sql.render(
        "SELECT count(*) FROM {table}", table=sql.name(plan.schema, plan.table_before)
    )


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


_LEAVES: LiteralString = """\
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT table_oid FROM {spans} WHERE run_id = {run_id})
  AND c.oid IN (SELECT relid FROM pg_partition_tree({oid}::oid::regclass))"""

_ASLEEP = """\
SELECT tgname::text, tgrelid::regclass::text
FROM pg_trigger, (SELECT %s::oid AS root) AS of
WHERE (tgrelid = root OR tgrelid IN (SELECT relid FROM pg_partition_tree(root::regclass)))
  AND tgname = ANY (%s) AND tgenabled <> 'A'"""
