"""Everything that a plan is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.facts.census import Census
from runbook.facts.owner_code import OwnerCode
from runbook.facts.runs import LedgerEntry, Unfinished
from runbook.facts.sample import Sample
from runbook.facts.server import Server
from runbook.facts.surroundings import Surroundings
from runbook.facts.table import Table, TypeFacts


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
    ledger_problem: str
    """Why the ledger must not be trusted, in a sentence, or ''; then nothing was read of it."""
    applied: LedgerEntry | None
    """The newest ledger entry of this migration whose table still exists."""
    unfinished: Unfinished | None = None
    """An online run on this table that has not ended."""
    written: Written | None = None
    """What was written to the table so far."""
    pooler: str | None = None
    """`transaction` or `session`, if a pooler is between; `session` also where it cannot be told
    which."""
    surroundings: Surroundings | None = None
    """What depends on the table or uses it; None where the rows were not counted either."""
    owner_code: tuple[OwnerCode, ...] = ()
    """Code of less privileged roles that would run with the connected role's rights."""
    ledger_writers: tuple[str, ...] = ()
    """Less privileged roles that may write the ledger: what it says of runs is their word."""
    reserved: frozenset[tuple[str, str, str]] = frozenset()
    """What has a name of the kind that a run gives to its own helpers: kind (`function`, `trigger`
    or `relation`), schema and name."""
    sample: Sample | None = None
    """How fast a few rows were read; None where the rows were not counted either."""
