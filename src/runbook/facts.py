"""The facts of a catalog, frozen: what one read-only snapshot of the database said.

`Table` and `TypeFacts` hold what the plan rests on and are covered by its hash; what differs
between two databases that a migration treats alike (OIDs, sizes, counts, owners, server) lives in
fields and classes that the hash leaves out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OLDEST = 150_000
"""The oldest PostgreSQL that is supported, as `server_version_num`."""

UNHASHED = {"hashed": False}
"""Field metadata: the plan's hash does not cover this field."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, in the order of the table."""

    name: str
    type: str
    """As `format_type` prints it with an empty search path."""
    not_null: bool
    default: str | None
    generated: str
    """'' or PostgreSQL's `attgenerated` letter."""
    identity: str
    """'' or PostgreSQL's `attidentity` letter."""
    labels: tuple[str, ...] = ()
    """The labels, if the type is an enum."""
    exact_hash: bool = True
    """Whether equal hashes of two values mean equal values as stored (see `proof`)."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint of the table; `kind` is PostgreSQL's `contype` letter."""

    name: str
    kind: str
    definition: str
    validated: bool

    @property
    def may_be_violated(self) -> bool:
        """Whether rows may violate it that cannot be updated then. One that is not enforced holds
        nobody back."""
        return not self.validated and not self.definition.endswith(" NOT ENFORCED")


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index of the table."""

    name: str
    definition: str
    columns: tuple[str, ...]
    """Its key columns; expressions are left out."""
    valid: bool
    of_constraint: bool
    """Whether it belongs to a constraint, and so is renamed with it."""

    @property
    def is_unique(self) -> bool:
        """Whether it holds keys."""
        return self.definition.startswith("CREATE UNIQUE ")


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A sequence owned by a column of the table."""

    name: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """An enabled user trigger that fires on UPDATE."""

    name: str
    definition: str


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition of the table, at any depth."""

    schema: str
    name: str
    kind: str
    """PostgreSQL's `relkind` letter: `p` for one that has partitions of its own."""
    level: int
    """1 for a partition of the table itself."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Rights on the table, or on one of its columns."""

    role: str | None
    """None for PUBLIC."""
    column: str | None
    rights: tuple[str, ...]
    grantable: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table to be migrated."""

    schema: str
    name: str
    kind: str
    """PostgreSQL's `relkind` letter: `r` for an ordinary table, `p` for a partitioned one."""
    persistence: str
    parent: str | None
    """The table that it is a partition or an inheritance child of."""
    has_children: bool
    """Whether tables inherit from it that are no partitions."""
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    sequences: tuple[Sequence, ...]
    update_triggers: tuple[Trigger, ...]
    before_triggers: tuple[Trigger, ...]
    """Those that may change a row before it is written, on insert or update; of partitions, too."""
    rules: tuple[str, ...]
    """Rewrite rules: they change what a statement does."""
    partitions: tuple[Partition, ...]
    """Those of a partitioned table; the leaves among them hold the rows."""
    lacks_replica_identity: bool
    """Whether it is published for updates without anything that identifies its rows."""
    row_security: bool
    """Whether policies say which rows a role sees."""
    oid: int = field(metadata=UNHASHED)
    owner: str = field(metadata=UNHASHED)
    heap_bytes: int = field(metadata=UNHASHED)
    index_bytes: int = field(metadata=UNHASHED)
    row_estimate: int = field(metadata=UNHASHED)
    grants: tuple[Grant, ...] = field(default=(), metadata=UNHASHED)
    """Rights that its owner gave to others."""
    row_security_active: bool = field(metadata=UNHASHED)
    """Whether row-level security hides rows from the connected role."""
    published: bool = field(default=False, metadata=UNHASHED)
    """Whether it, or a partition of it, is in a publication."""
    is_published_in_part: bool = field(default=False, metadata=UNHASHED)
    """Whether it is published for updates by a list of columns or a filter that does not fit what
    identifies its rows."""
    is_typed: bool = field(default=False, metadata=UNHASHED)
    """Whether a type says which columns it has."""
    row_type_users: tuple[str, ...] = field(default=(), metadata=UNHASHED)
    """Columns whose type is, or is made of, the type of its rows."""

    @property
    def leaves(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of each table that holds rows: its leaf partitions, or itself."""
        if self.kind != "p":
            return ((self.schema, self.name),)
        return tuple((one.schema, one.name) for one in self.partitions if one.kind != "p")

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, kw_only=True)
class TypeFacts:
    """A type of the migration's schema whose name the spec uses."""

    name: str
    kind: str
    """PostgreSQL's `typtype` letter: `e` for an enum."""
    labels: tuple[str, ...]
    owned: bool = field(metadata=UNHASHED)
    """Whether the connected role may alter it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that agree in every column that the rules look at."""

    label: str
    values: tuple[str | None, ...]
    rows: int


@dataclass(frozen=True, kw_only=True)
class RuleCount:
    """What one rule does to the rows as they are."""

    label: str
    takes: int
    """Rows that it classifies, being the first that matches."""
    alone: int
    """Rows that it would match if it stood first."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """Exact counts of one snapshot."""

    total: int
    predicted: Mapping[str, int]
    """Rows per label, in the order of the rules; labels without rows stand with 0."""
    columns: tuple[str, ...]
    """The columns that the rules look at: what `Group.values` means."""
    groups: tuple[Group, ...]
    """The largest groups of each label, at most `catalog.GROUPS_PER_LABEL` of them."""
    group_counts: Mapping[str, int]
    """How many groups each label has in all."""
    rules: tuple[RuleCount, ...]


@dataclass(frozen=True, kw_only=True)
class Server:
    """Who answers, and as whom we are connected. Nothing in it is secret."""

    version_number: int
    """As `server_version_num`: 150018 is 15.18."""
    server_version: str
    name: str
    user: str
    host: str
    port: int | None
    system_identifier: str | None
    """None where the role may not read it."""
    is_superuser: bool
    sees_others: bool
    """Whether other roles' sessions and replicas can be seen (pg_read_all_stats)."""
    read_only: bool
    """A replica, or a session that is read-only by default."""

    @property
    def is_too_old(self) -> bool:
        """Whether the server is older than the oldest supported."""
        return self.version_number < OLDEST


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """An applied run, as the ledger of the database recorded it."""

    run_id: str
    migration: str
    table_schema: str
    table_before: str
    table_after: str
    table_oid: int
    spec_sha256: str
    plan_sha256: str
    mode: str
    applied_by: str
    applied_at: str
    rows: int
    categories: Mapping[str, int]
    unvalidated: tuple[str, ...]
    """Foreign keys that were NOT VALID before the run already."""
    fingerprint: str | None
    hashes: str | None
    """The sum of the hashes of all rows of the table afterwards, where it was taken."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An applied run with its plan, and whether it was taken back."""

    ledger_schema: str
    """Where it is recorded."""
    entry: LedgerEntry
    plan: Mapping[str, Any]
    """The plan as plain data."""
    taken_back_at: str | None
    taken_back_by: str | None


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


@dataclass(frozen=True)
class Written:
    """What the server has counted of the writes to a table, or to its partitions."""

    rows: int | None
    """How many rows were ever written; None where it does not count."""
    tables: list[int]
    """The tables that they were counted of."""

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"rows": self.rows, "tables": self.tables}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Everything that the plan is made from; reading it changed nothing."""

    server: Server
    ledger_schema: str
    table: Table | None
    """The source table, or None if it is not there."""
    relations: Mapping[str, str]
    """Relations of the schema that hold a name the migration needs: name → kind in words."""
    types: Mapping[str, TypeFacts]
    missing_privileges: tuple[str, ...]
    census: Census | None
    """None where there is no table, or a blocker forbids reading it."""
    ledger_is_foreign: bool
    """Whether something else has the ledger's name."""
    applied: LedgerEntry | None
    """The newest ledger entry of this migration whose table still exists."""
    unfinished: Unfinished | None = None
    """An online run on this table that has not ended."""
    written: Written | None = None
    """What was written to the table so far."""
