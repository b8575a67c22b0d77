"""The scratch copy: what it offers, and the three places where it can be made."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from runbook import sql
from runbook.database import Target
from runbook.errors import RefusedError
from runbook.facts import Catalog
from runbook.run.online.guard import unhurried
from runbook.spec import Spec
from runbook.trust.holding import holding, require_known

Connect = Callable[[], psycopg.Connection[Any]]
Place = Literal["database", "schema", "embedded"]
Tell = Callable[[str], None]

PREFIX = "runbook_rehearsal_"
"""What the name of every scratch schema, database and server begins with."""

LEDGER = "_ledger"
"""What the name of a scratch schema's ledger ends with."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """What is to be copied, and how much of it."""

    source: Target
    connect: Connect
    """Opens a connection to the source."""
    spec: Spec
    catalog: Catalog
    rows: int
    """How many rows to copy at most; 0 is all."""
    trust_owner_code: bool = False
    """Whether code of less privileged roles may run with the connected role's rights."""
    tell: Tell = lambda text: None

    @property
    def total(self) -> int:
        """How many rows the source has."""
        return self.catalog.census.total if self.catalog.census else 0

    @property
    def is_sample(self) -> bool:
        """Whether a part of the rows is copied only."""
        return 0 < self.rows < self.total

    def relation(self) -> sql.Composable:
        """Return the source table with the sample's clause, as it stands last, after FROM.

        SYSTEM takes whole blocks (docs, SELECT, TABLESAMPLE): it reads no more than it copies.
        """
        assert self.catalog.table is not None
        table = sql.name(self.catalog.table.schema, self.catalog.table.name)
        if not self.is_sample:
            return table
        percent = min(100.0, 100 * self.rows / self.total)
        return sql.compose(
            "{table} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (0) LIMIT {rows}",
            table=table,
            percent=sql.value(percent),
            rows=sql.value(self.rows),
        )

    def holding(self, connection: psycopg.Connection[Any]) -> tuple[str, ...]:
        """Return the statements that keep code of others away from the source, for the transaction
        that reads it."""
        assert self.catalog.table is not None
        tables = [(self.catalog.table.schema, self.catalog.table.name)]
        return holding(connection, tables, ledger_schema=self.catalog.ledger_schema)

    def require_known(self, connection: psycopg.Connection[Any]) -> None:
        """Raise `BlockedError` if code of others has come to the source."""
        assert self.catalog.table is not None
        require_known(
            connection,
            [(self.catalog.table.schema, self.catalog.table.name)],
            ledger_schema=self.catalog.ledger_schema,
            known=set(map(str, self.catalog.owner_code)),
        )

    def columns(self) -> sql.Composable:
        """Return the columns whose values are copied: those that PostgreSQL does not make."""
        assert self.catalog.table is not None
        return sql.names(one.name for one in self.catalog.table.columns if not one.generated)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A scratch copy, ready for the rehearsal."""

    where: str
    """In words."""
    connect: Connect
    """Opens a connection to it."""
    spec: Spec
    """The migration as it is called there."""
    ledger_schema: str
    rows: int
    lacks: tuple[str, ...]
    """What of the original is not in it, in words."""


@contextmanager
def scratch(place: Place, wanted: Scratch) -> Iterator[Copy]:
    """Yield a copy; remove it, whatever happens.

    Raises `RefusedError` if it cannot be made there; then nothing is left of it either.
    """
    from runbook.rehearsal import in_database, in_embedded, in_schema

    places = {
        "database": in_database.copied,
        "schema": in_schema.copied,
        "embedded": in_embedded.copied,
    }
    with places[place](wanted) as copy:
        if not copy.rows and wanted.total:
            raise RefusedError(
                f"The sample of {wanted.rows:,} of {wanted.total:,} rows came out empty.",
                "Nothing was changed. Ask for more rows with --rows, or for all with --rows 0.",
            )
        yield copy


def scratch_name(within: str = "") -> str:
    """Return a name that nothing else has; `within` is what further begins it."""
    return f"{PREFIX}{within}{uuid.uuid4().hex[:12]}"


def unlimited(connect: Connect) -> psycopg.Connection[Any]:
    """Return a new connection that no timeout of the role ends: copying takes as long as it takes,
    and the session that holds the claim is idle meanwhile."""
    connection = unhurried(connect)
    connection.execute("SET statement_timeout = 0")
    return connection


def claim(connection: psycopg.Connection[Any], name: str) -> None:
    """Take the lock that says, as long as this session lives, that what has this name is needed; so
    what a killed rehearsal has left behind can be told from what is in use."""
    connection.execute(_CLAIM, [name])


def is_abandoned(connection: psycopg.Connection[Any], name: str) -> bool:
    """Return whether no rehearsal needs what has this name any more, and claim it if so."""
    row = connection.execute(_TRY, [name]).fetchone()
    return bool(row and row[0])


_CLAIM = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
_TRY = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
