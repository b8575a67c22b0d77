"""Exact counts of the rows as the rules see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    taken_by: Mapping[str, int] = field(default_factory=dict)
    """Those of them that earlier rules take, by the label that they get instead."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What the rows hold in the columns of an index that is to be built."""

    rows: int = 1
    """How many rows have the same key, by the example; 1 where no two were found or sought."""
    example: tuple[str, ...] = ()
    """Such a key, as text."""
    most_bytes: int = 0
    """The longest entry's values, as they are stored; 0 where none can be too long."""


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
    nulls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rows with NULL in a column that the rules look at: column → label that they get → rows."""

    keys: Mapping[str, Keys] = field(default_factory=dict)
    """What the rows hold of each index that they could be refused by, by its name."""

    def with_first(self, rule: RuleCount) -> Mapping[str, int]:
        """Return the rows of each label if a rule stood before all others."""
        read = dict(self.predicted)
        for label, rows in rule.taken_by.items():
            read[label] -= rows
            read[rule.label] += rows
        return read
