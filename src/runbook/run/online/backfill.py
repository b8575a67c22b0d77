"""The backfill: batches over block ranges, each a transaction that proves itself and notes how far
it came."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook.errors import Stopped
from runbook.facts import Span
from runbook.plan import progress
from runbook.run.course import Executed, milliseconds
from runbook.run.holders import holders, said
from runbook.run.online.journal import Journal
from runbook.run.online.pace import Pace, Pages
from runbook.run.online.watch import Watch
from runbook.run.patience import BLOCKED, Patience
from runbook.run.single import execute_single
from runbook.trust.holding import hold_code
from runbook.trust.owner_code import EVERY_ACT
from runbook.trust.settings import EMPTY_PATH_LOCALLY, application_path
from runbook.vocabulary import Statement

Connect = Callable[[], psycopg.Connection[Any]]


class Moved(Exception):
    """A table lies in another file than the block numbers are of."""

    def __init__(self, table_oid: int) -> None:
        super().__init__(table_oid)
        self.table_oid = table_oid


@dataclass(frozen=True, kw_only=True)
class Left:
    """Blocks of a table in which the sweep found a row that is not classified as the rules say."""

    table_oid: int
    first: int
    end: int
    """The block behind the last one."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What the sweep counted."""

    rows: int
    categories: dict[str, int]
    wrong: int
    left: tuple[Left, ...]


@dataclass
class _Sum:
    """What batches did."""

    batches: int = 0
    rows: int = 0
    busy_ms: float = 0.0
    longest_ms: float = 0.0


@dataclass
class Backfill:
    """The backfill of a table, or of its partitions. `settings` opens each batch's transaction: one
    text for one way to the server, each part of which is a single statement."""

    connect: Connect
    held: Collection[tuple[str, str]]
    """Tables to which a less privileged role may add code: each batch keeps it away."""
    known: Collection[str]
    """Code of less privileged roles that is trusted."""
    ledger_schema: str
    run_id: str
    settings: str
    batches: Mapping[int, Statement]
    """By the OID of the table that each is for."""
    redos: Mapping[int, Statement]
    """What is run over blocks in which the sweep found something."""
    journal: Journal
    pace: Pace
    watch: Watch
    tell: Callable[[str, float], None]
    blocks: int
    done: int = 0
    """Blocks that are done."""
    rows: int = 0
    """Rows that were updated by this run."""
    _done: dict[Statement, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    """What each statement did, since that was last asked."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, spans: list[Span], *, redo: bool = False) -> None:
        """Do all that is left of the spans, with a thread for each.

        Raises `Moved` if the table was rewritten meanwhile, `Stopped` if a batch altered other
        columns, and what the server said if a statement failed.
        """
        left = [span for span in spans if not span.is_done]
        if not left:
            return
        began = time.monotonic()
        at_first = self.done
        with ThreadPoolExecutor(self.pace.limits.jobs, thread_name_prefix="backfill") as pool:
            statements = self.redos if redo else self.batches
            futures = [pool.submit(self._do, span, statements[span.table_oid]) for span in left]
            self.watch.over(futures, lambda _: self._tell(began, at_first))

    def executed(self) -> list[Executed]:
        """Return all batches since the last call as one statement that ran for each table."""
        with self._lock:
            done, self._done = self._done, defaultdict(_Sum)
        return [
            Executed(
                sql=batch.sql,
                title=f"{batch.title} ({did.batches:,} batches, the longest held the lock)",
                phase=batch.phase,
                role=batch.role,
                lock=batch.lock,
                waited_ms=0.0,
                held_ms=did.longest_ms,
                duration_ms=round(did.busy_ms, 3),
                rows=did.rows,
                grows=batch.grows,
            )
            for batch, did in done.items()
        ]

    def _tell(self, began: float, at_first: int) -> None:
        """Tell a person how far it is."""
        share = min(1.0, self.done / self.blocks) if self.blocks else 1.0
        text = f"{self.done:,} of {self.blocks:,} blocks, {self.rows:,} rows updated and proved"
        if self.pace.reason:
            text += f"; pausing: {self.pace.reason}"
        elif self.done > at_first:
            left = (time.monotonic() - began) * (self.blocks - self.done) / (self.done - at_first)
            text += f"; about {left:,.0f} s left"
        self.tell(text, share)

    def _do(self, span: Span, batch: Statement) -> None:
        """Work through a span, batch by batch, in a session of its own."""
        pages = Pages(self.pace.limits.batch_ms)
        at = span.next_block
        with self.connect() as connection, self.watch.worker(connection):
            # Its parameters are $1, $2 …: rules are full of % signs, which mean nothing to it.
            connection.cursor_factory = psycopg.RawCursor
            patience = Patience(self.pace.limits.max_wait_ms / 1000)
            while at < span.end_block and self.pace.may_go_on():
                end = min(at + int(pages.pages), span.end_block)
                began = time.monotonic()
                try:
                    rows = self._one(connection, batch, span, at, end)
                except BLOCKED:
                    connection.execute("ROLLBACK")
                    if not patience.pause(self.pace.stopping.wait):
                        raise self._given_up(span) from None
                    continue
                patience = Patience(self.pace.limits.max_wait_ms / 1000)
                took = milliseconds(time.monotonic() - began)
                pages.took(took)
                self._note(batch, end - at, rows, took)
                at = end

    def _one(
        self, connection: psycopg.Connection[Any], batch: Statement, span: Span, at: int, end: int
    ) -> int:
        """Run one batch; return how many rows it updated."""
        began = time.monotonic()
        written = _WRITTEN.format(span.table_oid)
        opening = f"BEGIN ISOLATION LEVEL READ COMMITTED;\n{self.settings};\n{written}"
        at_first = _last_value(connection, opening)
        if batch.table and batch.table in self.held:
            hold_code(
                connection,
                [batch.table],
                ledger_schema=self.ledger_schema,
                acts=EVERY_ACT,
                known=self.known,
            )
        bounds = [f"({at},0)", f"({end},0)"]
        if batch.application_schema:
            connection.execute(application_path(batch.application_schema).encode())
        found = execute_single(connection, batch.sql, bounds).fetchone()
        assert found is not None
        rows, before, after, differing = found
        if differing:
            connection.execute("ROLLBACK")
            raise Stopped(
                f"In blocks {at:,} to {end - 1:,}, {differing:,} of {rows:,} rows had a value of "
                "another column altered while they were updated; the batch was rolled back.",
                "Something alters rows while they are updated, most likely a trigger of the "
                "application: disable it for the time of the migration.",
            )
        # Deferred triggers of the application fire now, and not after this was looked at.
        settled = f"SET CONSTRAINTS ALL IMMEDIATE;\n{EMPTY_PATH_LOCALLY};\n{written}"
        others = _last_value(connection, settled)
        if (others := others - at_first - rows) > 0:
            connection.execute("ROLLBACK")
            raise Stopped(
                f"In blocks {at:,} to {end - 1:,}, the update of {rows:,} rows had others of the "
                f"same table written {others:,} times; the batch was rolled back.",
                "Something writes to the table whenever a row is updated, most likely a trigger of "
                "the application: disable it for the time of the migration.",
            )
        took = milliseconds(time.monotonic() - began)
        noted = connection.execute(
            progress.note_batch(self.ledger_schema, self.run_id).encode(),
            [span.span, at, end, rows, before, after, took],
        )
        if noted.fetchone() is None:
            connection.execute("ROLLBACK")
            raise Moved(span.table_oid)
        connection.execute("COMMIT")
        return int(rows)

    def _note(self, batch: Statement, blocks: int, rows: int, took: float) -> None:
        self.journal.batch(blocks, rows, took)
        with self._lock:
            self.done += blocks
            self.rows += rows
            done = self._done[batch]
            done.batches += 1
            done.rows += rows
            done.busy_ms += took
            done.longest_ms = max(done.longest_ms, took)

    def _given_up(self, span: Span) -> Stopped:
        with self.connect() as connection:
            who = said(holders(connection, span.table_oid))
        return Stopped(
            f"Batches could not lock the table for {self.pace.limits.max_wait_ms / 1000:,.1f} s: "
            f"{who}.",
            "Run again when they are done.",
        )


def _last_value(connection: psycopg.Connection[Any], text: str) -> int:
    """Run statements; return the one value of the last."""
    cursor = connection.execute(text.encode())
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


# What this session wrote to a table in transactions that its statistics do not hold yet, the open
# one included (docs, 28.2.26): the difference of two is exact within one transaction.
_WRITTEN = """\
SELECT pg_stat_get_xact_tuples_inserted({0}) + pg_stat_get_xact_tuples_updated({0})
    + pg_stat_get_xact_tuples_deleted({0})"""
