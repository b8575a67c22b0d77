"""The table to be migrated, and the types that the spec names."""

from collections.abc import Iterable
from dataclasses import dataclass, field

UNHASHED = {"hashed": False}
"""Field metadata: the plan's hash does not cover this field."""


@dataclass(frozen=True, kw_only=True)
class ForeignType:
    """A type that is not PostgreSQL's own, below the domains over it: made by an extension, or by
    whoever may make types. Names are pairs of a schema and a name."""

    name: tuple[str, str]
    kind: str
    """PostgreSQL's `typtype` letter, or `a` for an array."""
    printed_by: tuple[str, str]
    """The function that gives its text. A cast to text may be anybody's (docs, CREATE CAST)."""
    equal_by: tuple[str, str] | None = None
    """The function of its own equality (docs, 38.16), where a base type has one."""
    like_by: tuple[str, str] | None = None
    """The function of its own LIKE, where a base type has one."""
    is_read_by_code: bool = False
    """Whether reading a literal as that type may run its owner's code: it is a composite type, or
    has one or a domain in it."""


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
    """Whether two values that are equal are the same value as stored (see `proof`)."""
    sent_by: str = ""
    """The function that gives its bytes, where its hash function folds them to 32 bits; else ''."""
    is_padded: bool = False
    """Whether it is `character(n)`, or a domain over it, whose cast to text strips blanks."""
    foreign: ForeignType | None = None
    """Its type, where that is not PostgreSQL's own."""
    default_is_read_by_code: bool = False
    """Whether its default has a literal that is read as `ForeignType.is_read_by_code` says."""
    index_methods: tuple[str, ...] = field(default=(), metadata=UNHASHED)
    """The methods of indexes that have an operator class for its type by default."""
    is_variable: bool = field(default=False, metadata=UNHASHED)
    """Whether its values differ in length."""


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
    """An enabled user trigger of the table, or of a partition, that fires on UPDATE."""

    name: str
    definition: str
    table: str = field(default="", metadata=UNHASHED)
    """Whose it is, as `regclass` prints it with an empty search path."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """An index, constraint or trigger of a partition: its own, or one that its parent gave it."""

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
    parent: tuple[str, str] | None = None
    """Schema and name of the table that it is a partition of."""
    indexes: tuple[Part, ...] = ()
    constraints: tuple[Part, ...] = ()
    triggers: tuple[Part, ...] = ()
    rules: tuple[str, ...] = ()
    """Rewrite rules that are enabled: they change what a statement on the partition itself
    does."""


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

    attributes: int = field(default=0, metadata=UNHASHED)
    """How many columns it has, or that of its partitions which has the most, dropped ones, too."""
    partition_keys: tuple[str, ...] = field(default=(), metadata=UNHASHED)
    """The columns by which it or a partition is partitioned; `an expression` stands for one."""

    @property
    def leaves(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of each table that holds rows: its leaf partitions, or itself."""
        if self.kind != "p":
            return ((self.schema, self.name),)
        return tuple((one.schema, one.name) for one in self.partitions if one.kind != "p")

    def is_exact(self, names: Iterable[str]) -> bool:
        """Return whether equal values of these columns are the same values, to every rule."""
        found = [self.column(name) for name in names]
        return all(column is not None and column.exact_hash for column in found)

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
