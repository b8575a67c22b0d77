"""Conditions: PostgreSQL evaluates what the grammar says, for any value and any nesting."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook import sql
from runbook.operations.condition import Condition
from runbook.operations.rule import Rule, label_expression, others_expression
from tests.conftest import Database

TEXT = st.text(alphabet="ab%_'\\\"é:", max_size=4)
VALUES = st.fixed_dictionaries(
    {"x": st.none() | TEXT, "y": st.none() | TEXT, "n": st.none() | st.integers(-2, 2)}
)


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    column = st.sampled_from(["x", "y"])
    return (
        st.fixed_dictionaries({"column": column, "equals": TEXT | st.lists(TEXT, min_size=1)})
        | st.fixed_dictionaries({"column": column, "like": st.sampled_from(["a%", "%b", "_", "%"])})
        | st.fixed_dictionaries({"column": st.just("n"), "equals": st.integers(-2, 2)})
        | st.fixed_dictionaries({"column": st.sampled_from(["x", "n"]), "is_null": st.booleans()})
    )


CONDITIONS = st.recursive(
    leaves(),
    lambda part: (
        st.fixed_dictionaries({"any": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"all": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"not": part})
    ),
    max_leaves=6,
)


def matches(condition: dict[str, Any], row: dict[str, Any]) -> bool:
    """Return what the condition means, evaluated in Python: a NULL never matches a comparison."""
    if "any" in condition:
        return any(matches(part, row) for part in condition["any"])
    if "all" in condition:
        return all(matches(part, row) for part in condition["all"])
    if "not" in condition:
        return not matches(condition["not"], row)
    value = row[condition["column"]]
    if "is_null" in condition:
        return bool((value is None) == condition["is_null"])
    if value is None:
        return False
    if "like" in condition:
        pattern = re.escape(condition["like"]).replace("%", ".*").replace("_", ".")
        return re.fullmatch(pattern, str(value), re.DOTALL) is not None
    wanted = condition["equals"]
    return value in (wanted if isinstance(wanted, list) else [wanted])


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(condition=CONDITIONS, row=VALUES)
def test_the_predicate_means_what_the_grammar_says(
    empty_newest: Database, condition: dict[str, Any], row: dict[str, Any]
) -> None:
    predicate = sql.text(Condition.model_validate(condition).predicate(None))
    query = f"SELECT ({predicate}) IS TRUE FROM (SELECT $1::text AS x, $2::text AS y, $3::int AS n)"
    text = query.replace("$1", literal(row["x"])).replace("$2", literal(row["y"]))
    text = f"{text.replace('$3', literal(row['n']))} AS row_"
    assert empty_newest.value(text) is matches(condition, row)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rules=st.lists(st.tuples(st.sampled_from("ABC"), CONDITIONS), min_size=1, max_size=4),
    otherwise=st.sampled_from("ABC"),
    row=VALUES,
)
def test_others_are_the_rows_whose_label_is_another(
    empty_newest: Database, rules: list[Any], otherwise: str, row: dict[str, Any]
) -> None:
    parsed = [Rule.model_validate({"label": name, "when": when}) for name, when in rules]
    case = sql.text(label_expression(parsed, otherwise, None))
    others = sql.text(others_expression(parsed, otherwise, "A", None))
    values = ", ".join(f"{literal(row[n])}::{t} AS {n}" for n, t in TYPES.items())
    query = f"SELECT ARRAY[({others}) IS TRUE, {case} <> 'A'] FROM (SELECT {values}) AS row_"
    said, meant = empty_newest.value(query)
    first = next((name for name, when in rules if matches(when, row)), otherwise)
    assert said is meant is (first != "A")


TYPES = {"x": "text", "y": "text", "n": "int"}


def literal(value: object) -> str:
    return sql.text(sql.value(value))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({}, "has no comparison"),
        ({"column": "x"}, "has no comparison"),
        ({"column": "x", "equals": "a", "like": "b"}, "has equals and like"),
        ({"equals": "a"}, "'equals' needs a column"),
        ({"column": "x", "not": {"column": "x", "equals": "a"}}, "takes conditions, not a column"),
        ({"column": "x", "equals": []}, "at least 1 item"),
        ({"any": []}, "at least 1 item"),
        ({"column": "x", "equals": None}, "has no comparison"),
        ({"column": "x", "matches": "a"}, "Extra inputs"),
        ({"column": "x", "like": "C:\\temp\\"}, "ends with a backslash that escapes nothing"),
        ({"column": "x", "like": ["a%", "\\\\\\"]}, "ends with a backslash"),
        ({"not": {"any": [{"column": "x", "like": "\\"}]}}, "ends with a backslash"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(
    condition: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Condition.model_validate(condition)


def test_a_backslash_that_is_escaped_may_end_a_pattern(empty_newest: Database) -> None:
    condition = Condition.model_validate({"column": "x", "like": "C:\\\\temp\\\\"})
    query = sql.render(
        "SELECT string_agg(x, ' ') FROM (VALUES ('C:\\temp\\'), ('C:\\temp')) AS t (x) WHERE {p}",
        p=condition.predicate(None),
    )
    assert empty_newest.value(query) == "C:\\temp\\"
