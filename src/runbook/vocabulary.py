"""Statements, findings and checks: what operations produce and every later stage passes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from runbook.findings import WHY
from runbook.visible import visible


class Lock(StrEnum):
    """PostgreSQL's table-level lock modes that a statement of ours takes (docs, 13.3.1)."""

    NONE = "none"
    ACCESS_SHARE = "ACCESS SHARE"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"

    @property
    def blocks(self) -> str:
        """What of others it makes wait, in words (docs, table 13.2); '' where nothing."""
        return _BLOCKED[self]


_BLOCKED = {
    Lock.NONE: "",
    Lock.ACCESS_SHARE: "blocks ALTER and DROP TABLE alone",
    Lock.ROW_EXCLUSIVE: "blocks no read, and writes to the same rows alone",
    Lock.SHARE_UPDATE_EXCLUSIVE: "blocks no read and no write, but VACUUM and index builds",
    Lock.SHARE: "blocks writes, no read",
    Lock.SHARE_ROW_EXCLUSIVE: "blocks writes, no read",
    Lock.ACCESS_EXCLUSIVE: "blocks reads and writes",
}


class Phase(StrEnum):
    """When a statement runs."""

    PREPARE = "prepare"
    """In a transaction of its own before the rest: what PostgreSQL cannot use in the transaction
    that made it (a label added to an existing enum type, error 55P04)."""
    ATOMIC = "atomic"
    """In the one transaction that does everything else."""
    EXPAND = "expand"
    """Online: the short transaction that adds what the application does not know yet."""
    BACKFILL = "backfill"
    """Online: block range by block range, each in a transaction of its own."""
    INDEX = "index"
    """Online: outside any transaction, beside the application's writes."""
    CUTOVER = "cutover"
    """Online: the short transaction that makes it what the spec says, under the new name."""
    CONTRACT = "contract"
    """Long after: the short transaction that removes the view under the old name, and what serves
    it. It is part of the plan, and run by a command of its own."""
    ROLLBACK = "rollback"
    """The way back: the short transaction that takes a run back, and what counts the rows before
    and after it. It is part of the plan, and run by a command of its own."""


class Role(StrEnum):
    """What the runner does around a statement."""

    SETTING = "setting"
    LOCK = "lock"
    """After it the catalog facts are read again and compared with those of the plan."""
    TALLY_BEFORE = "tally-before"
    CHANGE = "change"
    TALLY_AFTER = "tally-after"
    """After it both tallies are compared; a difference rolls everything back."""
    BOUNDS = "bounds"
    """Fixes the ranges of the cryptographic proof: one array, `$1` of the next two."""
    DIGEST_BEFORE = "digest-before"
    DIGEST_AFTER = "digest-after"
    """After it both digests of every range are compared, as the tallies are."""
    SAVEPOINT = "savepoint"
    ROWS_BEFORE = "rows-before"
    """Run for a range whose digest differs, with its bounds as $1 and $2; else not at all."""
    ROWS_AFTER = "rows-after"
    BATCH = "batch"
    """Run once a block range, with its bounds as $1 and $2; returns the range's proof."""
    REDO = "redo"
    """A batch over blocks in which the sweep found something, whatever it is labelled."""
    SWEEP = "sweep"
    """After all batches: counts the rows, and says where one is left that is labelled otherwise."""
    CONCURRENT = "concurrent"
    """Outside any transaction; a part of it may stay behind when it fails."""
    HAND_SET = "hand-set"
    """Before a rollback: counts the rows whose label is not the rules', which it would lose."""


_AT_ONCE = (Role.SETTING, Role.LOCK, Role.CHANGE, Role.SAVEPOINT)
"""Roles of statements that read no row, unless the statement says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Something that a statement makes, or gives another name."""

    kind: str
    """`table`, `column`, `constraint`, `index`, `sequence` or `type`."""
    name: str
    """The name that it has then."""
    before: str | None = None
    """The name that it had before, or None if it was not there."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One SQL statement of a plan. Frozen text: it runs exactly as it was reviewed."""

    sql: str
    title: str
    """What it does, in a few words."""
    phase: Phase = Phase.ATOMIC
    role: Role = Role.CHANGE
    lock: Lock = Lock.NONE
    lock_timeout_ms: int
    """How long it may wait for its lock."""
    undo: str | None = None
    """The SQL that takes it back, or None where nothing is to be taken back or nothing can."""
    table: tuple[str, str] | None = None
    """Schema and name of the table that it is for alone, where that is one of several: whose blocks
    a batch is for, or a partition. It falls away if that is none of the table's any more."""
    state: str | None = None
    """Of a concurrent statement: the query whose one value is a `State`."""
    cleanup: str | None = None
    """Of a concurrent statement: what removes a leftover of it."""
    made: Made | None = None
    """What its undo drops, or gives its name of before."""
    application_schema: str | None = None
    """The schema in which triggers of the application, which the statement has fire, look for names
    while it runs. Its own SQL names everything with its schema."""
    row_us: float = 0.0
    """Microseconds that it takes for each row of the table, as measured on 2 cores; 0 where its
    time does not grow with the rows, or nobody knows. The plan's hash leaves it out."""

    @property
    def grows(self) -> bool:
        """Whether its time grows with the table's rows, so that a sample's is no measure of it."""
        return self.row_us > 0 or self.role not in _AT_ONCE

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the statement that was recorded as plain data (`asdict`)."""
        kinds = {"phase": Phase, "role": Role, "lock": Lock}
        table = tuple(content["table"]) if content["table"] else None
        made = Made(**content["made"]) if content.get("made") else None
        typed = {name: kind(content[name]) for name, kind in kinds.items()}
        return cls(**{**content, **typed, "table": table, "made": made})


class State(StrEnum):
    """How far a concurrent statement has come."""

    ABSENT = "absent"
    LEFTOVER = "leftover"
    """A failed try left its part of it behind."""
    DONE = "done"
    FOREIGN = "foreign"
    """Something else has its name."""


class Level(StrEnum):
    """How much a finding matters."""

    BLOCKER = "blocker"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something the review tells a person. Raises `KeyError` for a code that has no `WHY`."""

    level: Level
    code: str
    """A key of `WHY`."""
    object: str
    message: str
    remedy: str
    why: str = field(init=False)
    """Why it matters, whatever was found."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", WHY[self.code])
        for name in ("object", "message", "remedy"):
            object.__setattr__(self, name, visible(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question whose SQL returns one value or counts the rows, and the answer expected."""

    id: str
    title: str
    sql: str
    part: str | None = None
    """What it asks of the counted rows, which are counted once: so the checks on rows speak of the
    same moment and cost one scan. None where the SQL's one value is the answer."""
    expected: object
    """Anything that JSON holds; `observed` must be equal to it."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A check with its answer."""

    id: str
    title: str
    sql: str
    expected: object
    observed: object
    passed: bool
