"""Where two plans differ: nothing for equal ones, and every changed fact by its name."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.plan import Options, build_plan
from runbook.plan.difference import plan_differences
from runbook.spec import load_spec
from tests.conftest import Cluster
from tests.migrating import catalog_of

SPEC = load_spec("llamalog")


@pytest.fixture(scope="module")
def plan(clusters: dict[int, Cluster]) -> dict[str, Any]:
    """A plan as it is read again from a bundle."""
    from tests.conftest import MAJORS, cluster_of

    cluster = cluster_of(clusters, MAJORS[-1])
    database = cluster.sample()
    try:
        made = asdict(build_plan(SPEC, catalog_of(database), Options(mode="atomic")))
    finally:
        cluster.drop(database)
    return made


def leaves(fact: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every single value."""
    if isinstance(fact, dict):
        for key in fact:
            yield from leaves(fact[key], (*path, key))
    elif isinstance(fact, list) and any(isinstance(item, dict) for item in fact):
        for n, item in enumerate(fact):
            yield from leaves(item, (*path, n))
    else:
        yield path


def test_equal_plans_do_not_differ(plan: dict[str, Any]) -> None:
    assert plan_differences(plan, deepcopy(plan)) == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_fact_that_changed_is_named(plan: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(leaves(plan["facts"]))))
    changed = deepcopy(plan)
    place = changed["facts"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "something else"
    named = [str(step) for step in path if isinstance(step, str)]
    found = plan_differences(plan, changed)
    assert found
    assert any(named[-1] in one or "something else" in one for one in found)


def test_options_spec_and_statements_are_named(plan: dict[str, Any]) -> None:
    changed = deepcopy(plan)
    changed |= {"mode": "online", "spec_sha256": "0" * 64}
    first, second, *rest = changed["statements"]
    changed["statements"] = [{**first, "sql": "SELECT 1"}, *rest, {**second, "title": "New one"}]
    found = plan_differences(plan, changed)
    assert "the mode was atomic and is online" in found
    assert "the spec's text is another one" in found
    assert f"statement {first['title']!r} ({first['phase']}) has another sql" in found
    assert "statement 'New one' (atomic) is new" in found
