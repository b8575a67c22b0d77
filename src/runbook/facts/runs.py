"""Runs as the ledger of the database recorded them, finished and unfinished."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cutover:
    """The moment of a run's last commit, by which rows written since are told from the run's."""

    snapshot: str
    """PostgreSQL's `pg_snapshot`, taken under the run's lock: which transactions had ended."""
    own: int
    """The number of the run's own transaction."""
    tables: tuple[int, ...]
    """OIDs of the table and all its partitions."""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """An applied run, as the ledger of the database recorded it."""

    run_id: str
    migration: str
    table_schema: str
    table_before: str
    table_after: str
    table_oid: int
    is_restored: bool
    """Whether the database was restored from a dump since: then the table is the one of that name,
    and no OID or hash of then says anything."""
    spec_sha256: str
    plan_sha256: str
    mode: str
    applied_by: str
    client: str | None
    """What its connection said of itself: the runbook's step, or the tool that ran its script."""
    applied_at: str
    rows: int
    categories: Mapping[str, int]
    fingerprint: str | None
    hashes: str | None
    """The sum of the hashes of all rows of the table afterwards, where it was taken."""
    plan: Mapping[str, Any] = field(repr=False)
    """The plan as plain data."""
    cutover: Cutover | None = None
    """None where a version recorded it that did not note that, or where that says nothing since the
    database was restored from a dump."""

    @property
    def content(self) -> dict[str, Any]:
        """It as plain data, without the plan."""
        content = asdict(replace(self, plan={}))
        del content["plan"]
        return content


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An applied run with its plan, and whether it was taken back."""

    ledger_schema: str
    """Where it is recorded."""
    entry: LedgerEntry
    taken_back_at: str | None
    taken_back_by: str | None

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan as plain data."""
        return self.entry.plan


@dataclass(frozen=True, kw_only=True)
class Span:
    """A range of a backfill's blocks: all before `next_block` is done and proved."""

    span: int
    table_oid: int
    """The table whose blocks it is of: a leaf, where the run's table is partitioned."""
    filenode: int
    """The file that the block numbers are of."""
    first_block: int
    next_block: int
    end_block: int

    @property
    def is_done(self) -> bool:
        """Whether nothing is left of it."""
        return self.next_block >= self.end_block


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """An online run that is under way, or was stopped, as the ledger has it."""

    run_id: str
    migration: str
    table_schema: str
    table_before: str
    table_oid: int
    is_restored: bool
    """Whether the database was restored from a dump since: then its blocks are others."""
    spec_sha256: str
    plan_sha256: str
    plan: Mapping[str, Any]
    """The plan as plain data."""
    phase: str
    """The phase that comes next, or is under way."""
    started_by: str
    started_at: str
    spans: tuple[Span, ...]
    batches: int
    rows: int
    """Rows that were updated and proved so far."""
    hashes_before: str
    hashes_after: str
    worked_ms: float
    """How long its batches took, one after the other."""
    whole: Mapping[str, Any] | None
    """What the whole table was before the first batch, where that was taken."""
    at_work: str | None
    """Who holds the run's lock now, in words; None where it was stopped."""

    @property
    def blocks(self) -> int:
        """Blocks that there are to do, those that are done among them."""
        return sum(span.end_block - span.first_block for span in self.spans)

    @property
    def blocks_done(self) -> int:
        """Blocks that are done."""
        return sum(span.next_block - span.first_block for span in self.spans)

    @property
    def left_s(self) -> float | None:
        """How long the backfill is likely to take still, by what its batches took, with one job."""
        done = self.blocks_done
        return self.worked_ms / done * (self.blocks - done) / 1000 if done else None
