"""The facts of a catalog, frozen: what one read-only snapshot of the database said.

`Table` and `TypeFacts` hold what the plan rests on and are covered by its hash; what differs
between two databases that a migration treats alike (OIDs, sizes, counts, owners, server) lives in
fields and classes that the hash leaves out.
"""

from runbook.facts.catalog import Catalog, Written
from runbook.facts.census import Census, Group, Keys, RuleCount
from runbook.facts.owner_code import Act, OwnerCode
from runbook.facts.runs import Cutover, LedgerEntry, Recorded, Span, Unfinished
from runbook.facts.sample import Sample
from runbook.facts.server import OLDEST, Server
from runbook.facts.surroundings import (
    Activity,
    Ages,
    Kind,
    Prepared,
    Related,
    Replica,
    Slot,
    Surroundings,
)
from runbook.facts.table import (
    UNHASHED,
    Column,
    Constraint,
    ForeignType,
    Grant,
    Index,
    Part,
    Partition,
    Sequence,
    Table,
    Trigger,
    TypeFacts,
)

__all__ = [
    "OLDEST",
    "UNHASHED",
    "Act",
    "Activity",
    "Ages",
    "Catalog",
    "Census",
    "Column",
    "Constraint",
    "Cutover",
    "ForeignType",
    "Grant",
    "Group",
    "Index",
    "Keys",
    "Kind",
    "LedgerEntry",
    "OwnerCode",
    "Part",
    "Partition",
    "Prepared",
    "Recorded",
    "Related",
    "Replica",
    "RuleCount",
    "Sample",
    "Sequence",
    "Server",
    "Slot",
    "Span",
    "Surroundings",
    "Table",
    "Trigger",
    "TypeFacts",
    "Unfinished",
    "Written",
]
