"""The backfill: batches over block ranges, each a transaction that proves itself and notes how far
it came."""

import threading
import time
from collections.abc import Callable
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
from runbook.vocabulary import Statement

Connect = Callable[[], psycopg.Connection[Any]]


class Moved(Exception):
    """The table lies in another file than the block numbers are of."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What the sweep counted."""

    rows: int
    categories: dict[str, int]
    wrong: int
    first: int
    """The first block with a wrong row."""
    end: int
    """The block behind the last one."""


@dataclass
class Backfill:
    """The backfill of one table. `settings` opens the transaction of each batch."""

    connect: Connect
    ledger_schema: str
    run_id: str
    table_oid: int
    settings: str
    batch: Statement
    journal: Journal
    pace: Pace
    watch: Watch
    tell: Callable[[str, float], None]
    blocks: int
    done: int = 0
    """Blocks that are done."""
    rows: int = 0
    """Rows that were updated by this run."""
    batches: int = 0
    longest_ms: float = 0.0
    busy_ms: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, spans: list[Span]) -> None:
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
            futures = [pool.submit(self._do, span) for span in left]
            self.watch.over(futures, lambda _: self._tell(began, at_first))

    def executed(self) -> Executed:
        """Return all batches as one statement that ran."""
        return Executed(
            sql=self.batch.sql,
            title=f"{self.batch.title} ({self.batches:,} batches, the longest held the lock)",
            phase=self.batch.phase,
            role=self.batch.role,
            lock=self.batch.lock,
            waited_ms=0.0,
            held_ms=self.longest_ms,
            duration_ms=round(self.busy_ms, 3),
            rows=self.rows,
        )

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

    def _do(self, span: Span) -> None:
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
                    rows = self._one(connection, span.span, at, end)
                except BLOCKED:
                    connection.execute("ROLLBACK")
                    if not patience.pause(self.pace.stopping.wait):
                        raise self._given_up(connection) from None
                    continue
                patience = Patience(self.pace.limits.max_wait_ms / 1000)
                took = milliseconds(time.monotonic() - began)
                pages.took(took)
                self._note(end - at, rows, took)
                at = end

    def _one(self, connection: psycopg.Connection[Any], span: int, at: int, end: int) -> int:
        """Run one batch; return how many rows it updated."""
        began = time.monotonic()
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED;\n{self.settings}".encode())
        bounds = [f"({at},0)", f"({end},0)"]
        found = connection.execute(self.batch.sql.encode(), bounds).fetchone()
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
        took = milliseconds(time.monotonic() - began)
        noted = connection.execute(
            progress.note_batch(self.ledger_schema, self.run_id, self.table_oid).encode(),
            [span, at, end, rows, before, after, took],
        )
        if noted.fetchone() is None:
            connection.execute("ROLLBACK")
            raise Moved
        connection.execute("COMMIT")
        return int(rows)

    def _note(self, blocks: int, rows: int, took: float) -> None:
        self.journal.batch(blocks, rows, took)
        with self._lock:
            self.done += blocks
            self.rows += rows
            self.batches += 1
            self.busy_ms += took
            self.longest_ms = max(self.longest_ms, took)

    def _given_up(self, connection: psycopg.Connection[Any]) -> Stopped:
        return Stopped(
            f"Batches could not lock the table for {self.pace.limits.max_wait_ms / 1000:,.0f} s: "
            f"{said(holders(connection, self.table_oid))}.",
            "Run again when they are done.",
        )
