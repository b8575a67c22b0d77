"""The proof over the whole table of an online run, where nobody else writes meanwhile.

The table is counted and fingerprinted in a snapshot before its first batch, beside the backfill,
and again after the last one, beside the building of the indexes. Where both agree nobody's word is
needed. Where they differ, PostgreSQL's own counters (docs, 28.2.19, pg_stat_all_tables) say whether
others wrote: then the comparison says nothing, and the report says that.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psycopg

from runbook.catalog.written import SETTLING_S, written
from runbook.errors import Stopped
from runbook.facts import Unfinished, Written
from runbook.plan import progress
from runbook.run.course import Course
from runbook.run.digest import TAKING, Digests
from runbook.run.online.backfill import Swept
from runbook.run.online.desk import Desk
from runbook.run.online.watch import CANCEL_S, Watch
from runbook.run.tally import WHOLE, Proof, Tally, prove
from runbook.vocabulary import Phase, Role, Statement

POLL_S = 0.25
"""How often the counters are read while they settle."""

AT_WORK = "others were writing to the table when the run began"
RESUMED = "it was not counted before the first batch of the run that this one resumed"


@dataclass
class Whole:
    """Compares the whole table before the batches and after, if that can mean anything."""

    desk: Desk
    watch: Watch
    at_start: Written
    """What the counters said when the run began."""
    tell: Callable[[str], None]
    is_fixed: threading.Event = field(default_factory=threading.Event)
    """Set once it is fixed what is counted: batches may begin."""
    why_not: str = ""
    """Why the whole table cannot be compared, in words; '' while it can."""
    _statements: tuple[Statement, ...] = field(init=False)
    _counting: tuple[psycopg.Connection[Any], Written] | None = None
    """While the table is counted: by what session, and what was written before."""
    _after: dict[str, Any] | None = None
    """What it was after the last batch, once that is known."""

    def __post_init__(self) -> None:
        statements = self.desk.statements(Phase.BACKFILL)
        self._statements = tuple(one for one in statements if one.role in _ROLES)

    def is_wanted(self, so_far: Unfinished) -> bool:
        """Return whether the table is to be counted now: before the first batch of the first run,
        with nobody else at work."""
        if not self._statements or so_far.whole:
            return False
        now = written(self.watch.connection, self.desk.table.oid)
        if so_far.batches:
            self.why_not = RESUMED
        elif now.rows is None or self.at_start.rows is None:
            self.why_not = "the server does not count writes (track_counts is off)"
        elif now.rows != self.at_start.rows:
            self.why_not = AT_WORK
        return not self.why_not

    def take(self) -> None:
        """Count and fingerprint the table, and note that. For a thread of its own."""
        try:
            with self.desk.connect() as connection, self.watch.worker(connection):
                known = written(connection, self.desk.table.oid)
                self._counting = connection, known
                content = known.content() | self._taken(connection, Role.TALLY_BEFORE)
            self.desk.execute(
                progress.note_whole(self.desk.ledger_schema, self.desk.run_id, content)
            )
        except psycopg.Error as error:
            failed = f"it could not be counted ({error.sqlstate or 'connection lost'})"
            self.why_not = self.why_not or failed
        finally:
            self._counting = None
            self.is_fixed.set()

    def look(self) -> None:
        """End the counting as soon as others are seen to write: it would say nothing."""
        if (counting := self._counting) is None or self.why_not:
            return
        connection, known = counting
        others = self._others(known.content())
        if others is None or others > 0:
            self.why_not = AT_WORK
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_S)

    def _taken(
        self,
        connection: psycopg.Connection[Any],
        role: Role,
        bounds: list[list[str]] | None = None,
    ) -> dict[str, Any]:
        """Return what a tally of the table, and the digests of its ranges, are in one snapshot."""
        digests = Digests(self.desk.table, bounds or [])
        course, tally = Course(), None
        with self.desk.snapshot(connection):
            connection.execute("SELECT 1")  # settings alone take no snapshot
            self.is_fixed.set()
            for statement in self._statements:
                if statement.role is role:
                    tally = Tally.of(course.execute(connection, statement))
                elif statement.role in TAKING and statement.role in _TOGETHER[role]:
                    digests.execute(connection, course, statement)
        self.watch.journal.executed += course.statements()
        assert tally is not None
        return {"tally": asdict(tally), "digests": digests.content()}

    @contextmanager
    def counting_again(self) -> Iterator[None]:
        """Count the whole table once more meanwhile, where it was counted before.

        Where a less privileged role may add code to the table, it is counted first: the lock that
        keeps such code away, and the building of an index, would wait for each other.
        """
        before = self.desk.so_far(self.watch.connection).whole
        if not (self._statements and before) or self._others(before) is None:
            yield
            return
        if self.desk.is_open_to_others(self.watch.connection):
            self._count_again(before)
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="whole") as pool:
            counted = pool.submit(self._count_again, before)
            try:
                yield
            except BaseException:
                self.watch.end([counted])
                raise
            self.watch.over([counted], lambda _: self.tell("the whole table is counted once more"))

    def _count_again(self, before: Mapping[str, Any]) -> None:
        """Count and fingerprint the table as it is after the batches."""
        with self.desk.connect() as connection, self.watch.worker(connection):
            bounds = before["digests"]["bounds"]
            self._after = self._taken(connection, Role.TALLY_AFTER, bounds)

    def swept(self) -> Swept | None:
        """Return what a sweep would find, where the second count says it: every row is classified,
        and nobody has written since the run began."""
        before = self.desk.so_far(self.watch.connection).whole
        if not before or self._after is None or self._others(before) != 0:
            return None
        tally = Tally(**self._after["tally"])
        if tally.wrong:
            return None
        return Swept(rows=tally.rows, categories={**tally.categories}, wrong=0, left=())

    def forget(self) -> None:
        """Have the second count taken anew: rows were written since."""
        self._after = None

    def proof(self, batches: Proof) -> Proof:
        """Return the proof of the whole table, or that of the batches with why not.

        Raises `Stopped` where the table differs and nobody else is seen to have written.
        """
        before = self.desk.so_far(self.watch.connection).whole
        if not self._statements:
            return batches
        if not before:
            return _not_whole(batches, self.why_not or RESUMED)
        others = self._others(before)
        # A batch that was rolled back when its run was killed was counted as well.
        if others is None or (others > 0 and not self.watch.journal.resumed):
            return _not_whole(batches, _wrote(others))
        if self._after is None:
            self.tell("the whole table is counted once more")
            self._count_again(before)
        assert self._after is not None
        proof = replace(self._compared(before, self._after), batches=batches.batches)
        if proof.passed:
            return proof
        others = self._settled(before)
        if others != 0:
            return _not_whole(batches, _wrote(others))
        raise Stopped(
            f"The proof over the whole table failed: {proof.rows_before:,} rows before and "
            f"{proof.rows_after:,} after, fingerprints "
            f"{'equal' if proof.fingerprint_before == proof.fingerprint_after else 'different'}, "
            f"and nobody else is seen to have written.{''.join(f' {d}.' for d in proof.different)}",
            "Find out what altered the table; take the run back with `runbook rollback`, compare "
            "with a backup, and migrate anew.",
        )

    def _compared(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Proof:
        """Compare the two; labels are none of it: before, they were those of the rules."""
        tallies = [Tally(**one["tally"]) for one in (before, after)]
        proof = prove(*(replace(one, categories={}, wrong=0) for one in tallies))
        says = f"Nobody else wrote to it meanwhile. {WHOLE}" if proof.passed else proof.says
        digests = Digests.of(self.desk.table, before["digests"], after["digests"])
        return replace(digests.prove(proof) if digests.found else proof, says=says)

    def _others(self, before: Mapping[str, Any]) -> int | None:
        """Return how many rows others wrote since, as far as that is counted yet; None where the
        counters do not tell. What this run wrote is asked for last: a batch is in the ledger before
        it is counted."""
        now = written(self.watch.connection, self.desk.table.oid)
        if now.rows is None or now.tables != before["tables"]:
            return None
        return now.rows - int(before["rows"]) - self.desk.so_far(self.watch.connection).rows

    def _settled(self, before: Mapping[str, Any]) -> int | None:
        """Return the same once every session must have told its counts."""
        deadline = time.monotonic() + SETTLING_S
        self.tell("the table differs: waiting for the server's counts of writes")
        while (others := self._others(before)) is not None and others <= 0:
            if time.monotonic() >= deadline:
                return others
            time.sleep(POLL_S)
        return others


_ROLES = frozenset((Role.TALLY_BEFORE, Role.TALLY_AFTER)) | TAKING
_TOGETHER = {
    Role.TALLY_BEFORE: (Role.BOUNDS, Role.DIGEST_BEFORE),
    Role.TALLY_AFTER: (Role.DIGEST_AFTER,),
}


def _wrote(others: int | None) -> str:
    if others is None or others < 0:
        return "the server's counts of writes do not reach back, or its partitions are others"
    return (
        f"{others:,} more rows were written meanwhile than the run is known to have, by others or "
        "by a batch that was rolled back"
    )


def _not_whole(batches: Proof, why: str) -> Proof:
    """Return the proof of the batches, and why there is no more."""
    says = f"{batches.says} The whole table could not be compared: {why}."
    return replace(batches, says=says)
