"""Code of less privileged roles on a table, and what has it run."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What the runbook does to a table."""

    READ = "read"
    """Its rows are read."""
    WRITE = "write"
    """Its rows are written."""
    DEFINE = "define"
    """Its definition is changed."""


_RUNS: Mapping[str, frozenset[Act]] = {
    "trigger": frozenset({Act.WRITE}),
    "rule": frozenset({Act.WRITE}),
    "view": frozenset({Act.READ, Act.WRITE}),
    "CHECK constraint": frozenset({Act.READ, Act.WRITE}),
    "constraint": frozenset({Act.WRITE}),
    "index": frozenset({Act.READ, Act.WRITE}),
    "default": frozenset({Act.WRITE}),
    "generated column": frozenset({Act.READ, Act.WRITE}),
    "statistics object": frozenset({Act.READ, Act.WRITE}),
    "partition key": frozenset({Act.READ, Act.WRITE}),
    "policy": frozenset({Act.READ, Act.WRITE}),
    "domain": frozenset({Act.WRITE}),
    "operator": frozenset({Act.READ, Act.WRITE}),
    "expression": frozenset({Act.WRITE}),
    "event trigger": frozenset({Act.DEFINE}),
    "range type": frozenset({Act.READ, Act.WRITE}),
    "foreign table": frozenset({Act.READ, Act.WRITE}),
}
"""What has code run, by what attaches it. The planner evaluates the constant parts of an index, a
CHECK or a statistics object for whoever only reads."""


@dataclass(frozen=True, kw_only=True)
class OwnerCode:
    """Code that would run with the connected role's rights, and whose it is."""

    kind: str
    """What it is attached by: `trigger`, `CHECK constraint`, `index` …"""
    object: str
    """The name of that, with its table or type."""
    function: str
    """The function with its arguments, or '' for a rule, which is code itself."""
    owner: str
    """The role that can change it."""

    def runs_by(self, acts: frozenset[Act]) -> bool:
        """Return whether one of some acts has it run."""
        return bool(_RUNS[self.kind] & acts)

    def __str__(self) -> str:
        calls = f" calls {self.function}" if self.function else ""
        return f"{self.kind} {self.object}{calls} (role {self.owner})"
