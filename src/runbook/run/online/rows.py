"""The rows of an online run: all of them classified, those that were there and those that come.

The backfill works through every block once; the sweep, just before the cutover, finds what it left
out.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.errors import Stopped
from runbook.facts import Span, Unfinished
from runbook.plan import Plan, progress
from runbook.run.course import Course
from runbook.run.holders import holders, said
from runbook.run.online.backfill import Backfill, Left, Moved, Swept
from runbook.run.online.desk import Desk
from runbook.run.online.watch import Watch
from runbook.run.online.whole import Whole
from runbook.run.patience import Patience
from runbook.run.single import require_single
from runbook.trust.holding import open_to_others
from runbook.vocabulary import Phase, Role, Statement


@dataclass
class Rows:
    """What classifies the rows of a table, or of its partitions."""

    desk: Desk
    watch: Watch
    tell: Callable[[Phase, str, float], None]
    whole: Whole
    _work: Backfill = field(init=False)

    def __post_init__(self) -> None:
        statements = self.desk.statements(Phase.BACKFILL)
        settings = [one.sql for one in statements if one.role is Role.SETTING]
        require_single(self.watch.connection, settings)
        self._work = Backfill(
            connect=self.desk.connect,
            held=(),
            known=self.desk.plan.facts.get("owner_code", ()),
            ledger_schema=self.desk.ledger_schema,
            run_id=self.desk.run_id,
            settings=";\n".join(settings),
            batches={},
            redos={},
            journal=self.watch.journal,
            pace=self.watch.pace,
            watch=self.watch,
            tell=self._tell,
            blocks=0,
        )
        self._take_up(statements)

    def _take_up(self, statements: Sequence[Statement]) -> None:
        """Have the batches for the partitions as they are."""
        connection = self.watch.connection
        leaves = dict.fromkeys(one.table for one in statements if one.table)
        self._work.held = open_to_others(
            connection,
            [*leaves] or self.desk.table.leaves,
            ledger_schema=self.desk.ledger_schema,
        )
        self._work.batches = dict(_by_oid(connection, statements, Role.BATCH))
        self._work.redos = dict(_by_oid(connection, statements, Role.REDO))

    def backfill(self) -> None:
        """Classify every row that was there before the triggers, unless an earlier run has."""
        self.watch.journal.begin_backfill()
        so_far = self.desk.so_far(self.watch.connection)
        if so_far.phase != Phase.BACKFILL:
            return
        try:
            with self._counting(so_far):
                self._work_all(so_far)
        finally:
            self.watch.journal.executed += self._work.executed()
        self.desk.enter(Phase.INDEX)

    @contextmanager
    def _counting(self, so_far: Unfinished) -> Iterator[None]:
        """Count the whole table meanwhile, as it is before the first batch, where that is wanted:
        beside the backfill it costs hardly any time."""
        if not self.whole.is_wanted(so_far):
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="whole") as pool:
            counted = pool.submit(self.whole.take)
            try:
                self.whole.is_fixed.wait()
                yield
            except BaseException:
                self.watch.end([counted])
                raise
            self.watch.over([counted], lambda _: self._tell_counting())

    def _tell(self, text: str, share: float) -> None:
        """Tell how far the backfill is, once a second."""
        self.whole.look()
        self.tell(Phase.BACKFILL, text, share)

    def _tell_counting(self) -> None:
        self._tell("the whole table is counted, as it was before", 1.0)

    def sweep(self) -> Swept:
        """Count the rows, unless that was just done; work on those that batches left out because
        somebody had locked them, or that were written while the triggers were not at work."""
        patience = Patience(self.watch.pace.limits.max_wait_ms / 1000)
        while (swept := self.whole.swept() or self._count()).wrong:
            self.whole.forget()
            self.tell(Phase.CUTOVER, f"{swept.wrong:,} rows were left out: once more", 0.0)
            if not patience.pause():
                raise self._given_up(swept)
            if any(one.table_oid not in self._work.redos for one in swept.left):
                self._take_up(self.desk.statements(Phase.BACKFILL))
            try:
                self._work.work(
                    [
                        self._add_span(one.table_oid, one.first, one.end)
                        for one in swept.left
                        if one.table_oid in self._work.redos
                    ],
                    redo=True,
                )
            except Moved as moved:
                self._work_all(self._restarted(moved.table_oid))
            finally:
                self.watch.journal.executed += self._work.executed()
        return swept

    def _given_up(self, swept: Swept) -> Stopped:
        waited_s = self.watch.pace.limits.max_wait_ms / 1000
        who = said(holders(self.watch.connection, self.desk.table.oid))
        oids = [one.table_oid for one in swept.left]
        tables = ", ".join(
            name for (name,) in self.watch.connection.execute(_NAMES, [oids]).fetchall()
        )
        return Stopped(
            f"{swept.wrong:,} rows could not be classified for {waited_s:,.1f} s, in {tables}: "
            "they are locked, or something of the application gives them another label. "
            f"{who}.",
            "Run again when they are let go.",
        )

    def refuse_renamed(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a partition under another name than the plan knows it by."""
        known = [one.table for one in self.desk.plan.statements if one.role is Role.BATCH]
        query = sql.render(
            _LEAVES,
            first=sql.value(len(known)),
            spans=sql.name(self.desk.ledger_schema, progress.SPANS),
            run_id=sql.value(self.desk.run_id),
            oid=sql.value(self.desk.table.oid),
        )
        for schema, name in connection.execute(query.encode()).fetchall():
            if known and (schema, name) not in known:
                raise Stopped(
                    f"Partition {schema}.{name} had another name when the run began.",
                    "Give it back for the time of the migration.",
                )

    def _work_all(self, so_far: Unfinished) -> None:
        """Work through all blocks, and from the start again whenever the table was rewritten."""
        while True:
            self.refuse_renamed(self.watch.connection)
            spans = self._spans(
                [one for one in so_far.spans if one.table_oid in self._work.batches]
            )
            self._work.blocks, self._work.done = so_far.blocks, so_far.blocks_done
            try:
                self._work.work(spans)
                return
            except Moved as moved:
                so_far = self._restarted(moved.table_oid)

    def _restarted(self, table_oid: int) -> Unfinished:
        """Have the backfill of a table begin again over its blocks as they lie now; return how far
        that is."""
        self.watch.still_guarded()
        self.watch.pace.stopping.clear()
        self.tell(Phase.BACKFILL, "the table was rewritten meanwhile: it starts over", 0.0)
        self.desk.execute(
            progress.restart_backfill(self.desk.ledger_schema, self.desk.run_id, table_oid)
        )
        return self.desk.so_far(self.watch.connection)

    def _spans(self, spans: list[Span]) -> list[Span]:
        """Return what is left to do, in at least as many spans as there are jobs."""
        left = [span for span in spans if not span.is_done]
        while left and len(left) < self.watch.pace.limits.jobs:
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
                        self.desk.ledger_schema, self.desk.run_id, widest.span, middle
                    ),
                ),
            ]
        return left

    def _add_span(self, table_oid: int, first: int, end: int, *also: str) -> Span:
        """Note a range that is to be done, and whatever else must be in the same transaction."""
        add = progress.add_span(self.desk.ledger_schema, self.desk.run_id, table_oid, first, end)
        row = self.desk.execute(";\n".join((add, *also)))
        assert row is not None
        return Span(
            span=row[0],
            table_oid=table_oid,
            filenode=row[1],
            first_block=first,
            next_block=first,
            end_block=end,
        )

    def _count(self) -> Swept:
        """Count the rows by label, in a transaction that takes no lock but that of a reader."""
        statements = [one for one in self.desk.statements(Phase.BACKFILL) if one.role is Role.SWEEP]
        with self.desk.connect() as connection, self.desk.snapshot(connection):
            if not statements:
                counted = _one(connection, _total(self.desk.plan))
                return Swept(rows=counted, categories={}, wrong=0, left=())
            course = Course()
            lines = course.execute(connection, statements[0]).fetchall()
            self.watch.journal.executed += course.statements()
        return _swept(lines)


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


def _by_oid(
    connection: psycopg.Connection[Any], statements: Sequence[Statement], role: Role
) -> Iterator[tuple[int, Statement]]:
    """Yield the statements of a role with the OIDs of the tables that they are for."""
    for one in statements:
        if one.role is role:
            query = sql.render("SELECT {oid}::oid::bigint", oid=progress.oid_of(one))
            yield _one(connection, query), one


def _total(plan: Plan) -> str:
    return sql.render(
        "SELECT count(*) FROM {table}", table=sql.name(plan.schema, plan.table_before)
    )


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


_NAMES: LiteralString = """\
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s) ORDER BY 1"""

_LEAVES: LiteralString = """\
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
-- The run began with a span for each; those of partitions that came later have higher numbers.
WHERE c.oid IN (SELECT table_oid FROM {spans} WHERE run_id = {run_id} AND span <= {first})
  AND c.oid IN (SELECT relid FROM pg_partition_tree({oid}::oid::regclass))"""
