"""Migrations of every kind, each with what makes the database that it is for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from runbook.spec import Spec, load_spec
from tests.conftest import Cluster, Database
from tests.operations.test_specs import (
    EXTENDED,
    HOSTILE,
    HOSTILE_MADE,
    ONLY_CLASSIFY,
    ONLY_RENAME,
    TICKETS,
    WITHOUT_RENAME,
    spec_of,
)

RENAMED = (
    WITHOUT_RENAME.replace('"tickets_state', '"issues_state')
    + '[[operation]]\nop = "rename_table"\nto = "issues"\n'
)

ONLY_ENUM = """
name = "only-enum"
table = "tickets"
[[operation]]
op = "create_enum"
name = "severity"
labels = ["low", "high"]
"""

ONLY_INDEXES = """
name = "only-indexes"
table = "tickets"
[[operation]]
op = "create_index"
name = "Key of tickets"
columns = ["id", "priority"]
unique = true
[[operation]]
op = "create_index"
name = "tickets_state_hash"
columns = ["state"]
method = "hash"
[[operation]]
op = "create_index"
name = "tickets_more_gin"
columns = ["more"]
method = "gin"
"""

PARTITIONED = (
    "CREATE TABLE tickets (id serial, state text, priority integer, price numeric,"
    " PRIMARY KEY (id)) PARTITION BY RANGE (id)",
    "CREATE TABLE tickets_1 PARTITION OF tickets FOR VALUES FROM (0) TO (400)",
    'CREATE TABLE "Tickets 2" PARTITION OF tickets FOR VALUES FROM (400) TO (800)',
    "CREATE TABLE tickets_rest PARTITION OF tickets DEFAULT",
    "CREATE INDEX tickets_priority_idx ON tickets (priority)",
    TICKETS[1],
)

SEVERITY = "CREATE TYPE severity AS ENUM ('low', 'high')"
MOSTLY_OPEN = "UPDATE tickets SET state = 'open' WHERE id % 10 <> 0"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A migration, and what makes its database."""

    text: str | None = None
    """The spec; None for the shipped one, on its sample data."""
    made: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the plan beyond the mode."""

    @property
    def spec(self) -> Spec:
        """The migration."""
        return spec_of(self.text) if self.text else load_spec("llamalog")

    def make(self, cluster: Cluster) -> Database:
        """Return a database to be migrated."""
        database = cluster.make() if self.text else cluster.sample()
        database.execute(*self.made)
        return database


CASES = {
    "llamalog": Case(),
    "classify first": Case(text=RENAMED, made=TICKETS),
    "without rename": Case(text=WITHOUT_RENAME, made=TICKETS),
    "only rename": Case(text=ONLY_RENAME, made=TICKETS),
    "existing type": Case(text=ONLY_CLASSIFY, made=(*TICKETS, SEVERITY)),
    "extended type": Case(text=EXTENDED, made=(*TICKETS, SEVERITY)),
    "only enum": Case(text=ONLY_ENUM, made=TICKETS),
    "only indexes": Case(
        text=ONLY_INDEXES, made=(*TICKETS, "ALTER TABLE tickets ADD COLUMN more jsonb DEFAULT '{}'")
    ),
    "few rows differ": Case(text=RENAMED, made=(*TICKETS, MOSTLY_OPEN)),
    "no rows": Case(text=RENAMED, made=TICKETS[:1]),
    "partitioned": Case(text=RENAMED, made=PARTITIONED),
    "hostile names": Case(text=HOSTILE, made=HOSTILE_MADE),
    "old name view": Case(
        text=RENAMED, made=(*TICKETS, MOSTLY_OPEN), options={"old_name_view": True}
    ),
}

_TELLING = ("llamalog", "classify first", "extended type", "partitioned", "hostile names")


def kinds(*but: str) -> list[Any]:
    """Return the names of the cases as a test's parameters: the telling ones in every suite, the
    others in the soak."""
    return [
        pytest.param(name, marks=() if name in _TELLING else pytest.mark.soak)
        for name in CASES
        if name not in but
    ]
