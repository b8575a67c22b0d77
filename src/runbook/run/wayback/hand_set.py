"""Labels that the rules do not give: what a rollback loses, as it was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.operations.base import blocker
from runbook.plan import Plan
from runbook.run.single import execute_single
from runbook.vocabulary import Finding, Level, Phase, Role, Statement


@dataclass(frozen=True, kw_only=True)
class HandSet:
    """The rows whose label is not the one that the rules give."""

    rows: int
    groups: int
    """How many groups of equal rows they make."""
    names: Sequence[str]
    """What each part of a group is: the columns that the rules look at, the label, the rules'."""
    largest: Sequence[tuple[object, ...]]
    """The largest groups, each ending with its number of rows."""

    @classmethod
    def of(cls, cursor: psycopg.Cursor[Any]) -> "HandSet":
        """Return what the plan's query answered."""
        found = cursor.fetchall()
        groups, rows = found[0][-2:] if found else (0, 0)
        return cls(
            rows=rows,
            groups=groups,
            names=[column.name for column in cursor.description or ()][:-2],
            largest=[line[:-2] for line in found],
        )

    def finding(self, name: str, *, discard: bool) -> Finding:
        """Return what is to be said of them."""
        message = (
            f"{self.rows:,} rows have a label that the rules do not give: a rollback loses it."
        )
        if discard:
            return Finding(
                level=Level.WARNING,
                code="categories-set-by-hand",
                object=name,
                message=message,
                remedy="They are lost, as --discard-categories says; the report lists them.",
            )
        return blocker(
            "categories-set-by-hand",
            name,
            message,
            "Keep a copy of them, or of what they tell; --discard-categories then rolls back "
            "without them.",
        )


def hand_set_statement(plan: Plan) -> Statement | None:
    """Return the plan's query for such rows, or None where it classifies none."""
    back = plan.of_phase(Phase.ROLLBACK)
    return next((one for one in back if one.role is Role.HAND_SET), None)


def read_hand_set(connection: psycopg.Connection[Any], plan: Plan) -> HandSet | None:
    """Count them, in the transaction that is open."""
    statement = hand_set_statement(plan)
    return HandSet.of(execute_single(connection, statement.sql)) if statement else None
