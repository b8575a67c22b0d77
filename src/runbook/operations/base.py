"""The contract of an operation: its SQL, its locks, its preconditions, its checks and its undo.

An operation is parsed from a spec and knows nothing of any connection. `statements` and
`preconditions` are asked in the order of the spec, each with the `Scope` that the operations
before it left; `after` says what the next one will find.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict

from runbook import sql
from runbook.facts import Catalog, Census, Table
from runbook.vocabulary import Check, Finding, Level, Lock, Made, Phase, Role, Statement

NAME_BYTES = 63
"""The longest name that PostgreSQL keeps (NAMEDATALEN - 1); it cuts longer ones in silence."""


def _check_name(name: str) -> str:
    if not name:
        raise ValueError("a name may not be empty")
    if "\x00" in name:
        raise ValueError("a name may not hold a NUL character")
    if len(name.encode()) > NAME_BYTES:
        raise ValueError(
            f"is {len(name.encode())} bytes long, and PostgreSQL keeps only {NAME_BYTES}"
        )
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that PostgreSQL keeps as it is."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the checks are made from: the spec's names, and what the run found and predicted."""

    schema: str
    table_before: str
    table_after: str
    table_oid: int
    is_restored: bool
    """Whether the database was restored from a dump since the run."""
    named_not_null: bool
    """Whether NOT NULL was a constraint with a name when it was planned (PostgreSQL 18)."""
    rows_sql: str
    """The query by which the rows were counted."""
    total: int
    """How many rows it counted."""
    categories: Mapping[str, int]
    """Rows that each label should have."""
    unvalidated: tuple[str, ...]
    """Foreign keys that were NOT VALID before the migration already."""
    criteria: Mapping[str, str]
    """The user's own acceptance criteria: check → its name (`table` → `SCHEMA-02`)."""

    def check_id(self, check: str) -> str:
        """Return the criterion's name for a check, or the check's own."""
        return self.criteria.get(check, check)

    @property
    def relation(self) -> sql.Composable:
        """The migrated table, quoted."""
        return sql.name(self.schema, self.table_after)

    @property
    def named(self) -> sql.Composable:
        """Its quoted name as a literal, for `::regclass`."""
        return sql.named(self.schema, self.table_after)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an operation finds: the catalog, as the operations before it will have changed it."""

    catalog: Catalog
    table: Table
    """The table as it was before the migration."""
    table_name: str
    """The table's name by now."""
    table_after: str
    """The table's name once all operations are done."""
    enums: Mapping[str, tuple[str, ...]]
    """Enum types of the schema by now: name → labels."""
    lock_timeout_ms: int
    old_name_view: bool = False
    """Whether a view shall stay under the table's old name, for an application that knows no
    other."""
    claimed: frozenset[str] = frozenset()
    """Names that the operations before will have given to relations."""
    added: tuple[str, ...] = ()
    """Columns that the table will have by now beyond those of the catalog."""

    @property
    def schema(self) -> str:
        return self.table.schema

    @property
    def census(self) -> Census:
        """The exact counts; there wherever nothing blocks."""
        assert self.catalog.census is not None
        return self.catalog.census

    @property
    def relation(self) -> sql.Composable:
        """The table by its present name, quoted."""
        return sql.name(self.schema, self.table_name)

    def statement(
        self,
        text: str,
        title: str,
        *,
        lock: Lock,
        undo: str | None = None,
        phase: Phase = Phase.ATOMIC,
        role: Role = Role.CHANGE,
        table: tuple[str, str] | None = None,
        state: str | None = None,
        cleanup: str | None = None,
        made: Made | None = None,
        application_schema: str | None = None,
        row_us: float = 0.0,
    ) -> Statement:
        """Return a statement with this run's lock timeout."""
        return Statement(
            sql=text,
            title=title,
            phase=phase,
            role=role,
            lock=lock,
            lock_timeout_ms=self.lock_timeout_ms,
            undo=undo,
            table=table,
            state=state,
            cleanup=cleanup,
            made=made,
            application_schema=application_schema,
            row_us=row_us,
        )

    def renamed(self, name: str) -> Self:
        """Return the scope after the table took another name."""
        return replace(self, table_name=name)

    def with_names(self, names: Iterable[str]) -> Self:
        """Return the scope after relations took these names."""
        return replace(self, claimed=self.claimed | frozenset(names))

    def with_column(self, name: str) -> Self:
        """Return the scope after the table got another column."""
        return replace(self, added=(*self.added, name))

    def with_enum(self, name: str, labels: tuple[str, ...]) -> Self:
        """Return the scope after an enum type was created or extended."""
        return replace(self, enums={**self.enums, name: labels})


@dataclass(frozen=True, kw_only=True)
class Additions:
    """The names of what the table has only while a migration goes on or after it."""

    columns: frozenset[str] = frozenset()
    constraints: frozenset[str] = frozenset()
    indexes: frozenset[str] = frozenset()
    update_triggers: frozenset[str] = frozenset()
    before_triggers: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def __or__(self, other: Self) -> Self:
        """Return what both add."""
        return replace(
            self, **{name: getattr(self, name) | getattr(other, name) for name in vars(self)}
        )


class Operation(BaseModel):
    """One typed step of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    online_last: ClassVar[bool] = False
    """Whether it comes after the others online, whatever its place in the spec."""

    def relation_names(self) -> tuple[str, ...]:
        """Return the names that this operation will give to relations."""
        return ()

    def type_names(self) -> tuple[str, ...]:
        """Return the names of the types that it makes or uses."""
        return ()

    def preconditions(self, scope: Scope) -> Iterator[Finding]:
        """Yield what speaks against it, or what a person should know before."""
        raise NotImplementedError

    def statements(self, scope: Scope) -> Iterator[Statement]:
        """Yield its SQL for the atomic mode, in order. Asked only where nothing blocks."""
        raise NotImplementedError

    def undo(self, scope: Scope) -> Iterator[Statement]:
        """Yield what takes its finished change back, the last one first. Both modes end in the same
        state, and what serves the view under the old name is gone before."""
        made = self.statements(replace(scope, old_name_view=False))
        yield from taking_back(reversed([*made]))

    def online_preconditions(self, scope: Scope) -> Iterator[Finding]:
        """Yield what speaks against the online mode alone."""
        yield from ()

    def online_statements(self, scope: Scope) -> Iterator[Statement]:
        """Yield its SQL for the online mode, each with its phase; those of a phase in order."""
        raise NotImplementedError

    def adds(self, scope: Scope) -> Additions:
        """Return what the catalog shows of its online statements before the cutover."""
        return Additions()

    def checks(self, expected: Expected) -> Iterator[Check]:
        """Yield the questions that the database must answer afterwards."""
        raise NotImplementedError

    def reasons(self, scope: Scope) -> Iterator[str]:
        """Yield why it is done this way, a sentence each, where there was a choice."""
        yield from ()

    def needed_bytes(self, scope: Scope) -> int:
        """Return how many bytes its statements add to the table and its indexes, at most."""
        return 0

    def after(self, scope: Scope) -> Scope:
        """Return what the next operation will find."""
        return scope


def in_phase(phase: Phase, statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements of the atomic mode in a phase of the online one."""
    for one in statements:
        yield replace(one, phase=phase) if one.phase is Phase.ATOMIC else one


def taking_back(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield what takes each of the statements back, where something does."""
    for one in statements:
        if one.undo:
            yield Statement(
                sql=one.undo,
                title=f"Take back: {one.title}",
                phase=Phase.ROLLBACK,
                lock=Lock.ACCESS_EXCLUSIVE,
                lock_timeout_ms=one.lock_timeout_ms,
                made=one.made,
            )


def blocker(code: str, object_: str, message: str, remedy: str) -> Finding:
    """Return a finding that forbids the run."""
    return Finding(level=Level.BLOCKER, code=code, object=object_, message=message, remedy=remedy)


def warning(code: str, object_: str, message: str, remedy: str) -> Finding:
    """Return a finding that a person has to weigh before the run."""
    return Finding(level=Level.WARNING, code=code, object=object_, message=message, remedy=remedy)


def note(code: str, object_: str, message: str, remedy: str) -> Finding:
    """Return a finding that a person should know."""
    return Finding(level=Level.NOTE, code=code, object=object_, message=message, remedy=remedy)


def with_article(kind: str) -> str:
    """Return a kind of object with its article."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def carried_name(name: str, before: str, after: str) -> str | None:
    """Return the name that a dependent gets when its table is renamed, or None if it keeps its own.

    Only names that carry the table's (`before`, then `_`) follow it. The result is cut at 63 bytes,
    at a character's end, as PostgreSQL would cut it.
    """
    if not re.match(re.escape(before) + "_", name):
        return None
    renamed = after + name[len(before) :]
    return renamed.encode()[:NAME_BYTES].decode(errors="ignore")


def not_null_name(table: str, column: str) -> str:
    """Return the name that PostgreSQL 18 gives a NOT NULL constraint by itself."""
    return object_name(table, column, "not_null")


def object_name(table: str, addition: str, label: str) -> str:
    """Return the name that PostgreSQL makes of three parts: where it is too long, the first two are
    cut to about the same length (makeObjectName in its source)."""
    parts = [table.encode(), addition.encode()]
    while sum(map(len, parts)) + len(label) + 2 > NAME_BYTES:
        longer = 0 if len(parts[0]) > len(parts[1]) else 1
        parts[longer] = parts[longer][:-1]
    return "_".join([*(part.decode(errors="ignore") for part in parts), label])
