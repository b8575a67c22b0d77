"""What depends on the table, uses it, or may hinder a change: what a review looks at beyond it.

Nothing of it is covered by the plan's hash: it says who else is there, not what the statements rest
on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a related object is, in PostgreSQL's words."""

    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    ROUTINE = "function"
    """A function or procedure whose body the server has parsed (SQL-standard body)."""
    ROUTINE_TEXT = "function's text"
    """A function or procedure whose text names the table."""
    TRIGGER = "trigger"
    RULE = "rule"
    POLICY = "policy"
    PUBLICATION = "publication"
    SUBSCRIPTION = "subscription"
    REPLICA_IDENTITY = "replica identity"
    FOREIGN_KEY_FROM = "foreign key from it"
    FOREIGN_KEY_TO = "foreign key to it"
    PARTITION = "partition"
    PARENT = "parent"
    CHILD = "inheritance child"
    GENERATED = "generated column"
    STATISTICS = "extended statistics"
    GRANT = "grant"
    DEFAULT_PRIVILEGES = "default privileges"
    EVENT_TRIGGER = "event trigger"
    EXTENSION = "extension"
    """One that owns the table or something that it is made of."""
    HISTORY = "history of a tool"
    """A table in which another migration tool keeps what it has run."""
    COMMENT = "comment"
    STATEMENT = "statement"
    """One of pg_stat_statements that names the table."""
    OTHER = "other dependent"


@dataclass(frozen=True, kw_only=True)
class Related:
    """An object that depends on the table, or that the table depends on."""

    kind: Kind
    name: str
    detail: str = ""
    """Its definition, or what else tells a person what it is."""
    enabled: bool = True
    """Of a trigger, event trigger or subscription: whether it is at work. Of a function's text:
    whether it names the table in its code, and not in strings alone."""
    on_table: bool = False
    """Of a function: whether a trigger of the table runs it. Of an extension: whether it owns the
    table itself. Of a view: whether it reads the table, and not only another view."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A session that uses the table, or has a transaction open."""

    pid: int
    user: str | None
    application: str | None
    state: str | None
    transaction_s: float | None
    """How long its transaction has lasted; None where there is none, or it is not to be seen."""
    idle_s: float | None
    """How long it has waited for its client inside a transaction."""
    locks: tuple[str, ...]
    """The locks that it holds on the table."""
    is_old_vacuum: bool = False
    """Whether it is a vacuum against wraparound, which gives way to nobody."""

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.user}, {self.application!r})"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared transaction of this database."""

    gid: str
    owner: str
    age_s: float
    on_table: bool
    """Whether it holds a lock on the table."""


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A standby that is connected."""

    name: str
    is_synchronous: bool
    lag_bytes: int | None
    lag_s: float | None


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A replication slot."""

    name: str
    active: bool
    retained_bytes: int | None
    """WAL that it keeps the server from removing."""
    wal_status: str | None
    """`reserved`, `extended`, `unreserved` or `lost`."""


@dataclass(frozen=True, kw_only=True)
class Ages:
    """How far the server is from having to freeze (docs, 24.1.5), in transactions."""

    table: int
    """Age of the table's oldest unfrozen row."""
    freeze_max: int
    """From this age on a vacuum against wraparound comes, and gives way to no lock."""
    database: int


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Everything around the table, as of the catalog's snapshot."""

    related: tuple[Related, ...]
    activity: tuple[Activity, ...]
    prepared: tuple[Prepared, ...]
    replicas: tuple[Replica, ...]
    slots: tuple[Slot, ...]
    waits_for_replicas: bool
    """Whether commits wait for a synchronous standby (synchronous_standby_names)."""
    ages: Ages
    timeouts: Mapping[str, int]
    """Timeouts that the server, database or role gives each session: name → ms, without zeros."""
    free_bytes: int | None
    """Free on the disk of the data directory; None where it is not to be seen from here."""
    hidden: tuple[str, ...]
    """What the role may not see, in words."""

    def of_kind(self, *kinds: Kind) -> tuple[Related, ...]:
        """Return the related objects of some kinds."""
        return tuple(one for one in self.related if one.kind in kinds)
