"""Plans alike but for their schema: one hash for them, another for any other difference."""

import re
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runbook.plan.alike import alike, alike_sha256
from runbook.plan.model import Plan
from runbook.spec import Spec, load_spec
from runbook.vocabulary import Lock, Statement

SPEC: Spec = load_spec("llamalog")
KEY = "REFERENCES {to}.users(id)"

_WORDS = r"(?<![\w$]){}(?![\w$])"
NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,20}\Z").filter(
    lambda name: not re.search(_WORDS.format(re.escape(name)), f"{asdict(plan('Another'))} {KEY}")
)
"""Names of schemas that are the name of nothing else in the plan."""


def plan(schema: str, *, more: str = "") -> Plan:
    """Return a plan whose facts and statements name a schema as PostgreSQL and psycopg do."""
    facts: dict[str, Any] = {
        "table": {
            "schema": schema,
            "indexes": [f"CREATE INDEX i ON {schema}.enrichment_logs USING btree (status)"],
            "default": f"nextval('{schema}.numbers'::regclass)",
        },
        "types": {f"{schema}.kind": {"labels": ["A"]}},
    }
    sql = f'ALTER TABLE "{schema}"."enrichment_logs" RENAME TO "llama_logs"{more}'
    return Plan(
        migration="llamalog",
        mode="atomic",
        schema=schema,
        table_before="enrichment_logs",
        table_after="llama_logs",
        statements=(
            Statement(sql=sql, title="rename", lock=Lock.ACCESS_EXCLUSIVE, lock_timeout_ms=100),
        ),
        reasons=(),
        predicted={},
        estimated_lock_ms=0.0,
        estimated_ms=0.0,
        facts=facts,
        extended={},
        adds={},
        spec_sha256=SPEC.model_copy(update={"schema_": schema}).sha256,
        ledger_schema="runbook",
    )


@given(NAMES, NAMES)
def test_the_schema_is_all_that_may_differ(one: str, other: str) -> None:
    assert alike_sha256(plan(one), SPEC) == alike_sha256(plan(other), SPEC)
    assert alike_sha256(plan(one), SPEC) == plan("public").sha256


@given(NAMES, NAMES, st.sampled_from([" ", "x", ".", '"', "_"]))
def test_whatever_else_differs_is_another_plan(one: str, other: str, more: str) -> None:
    assert alike_sha256(plan(one), SPEC) != alike_sha256(plan(other, more=more), SPEC)


@given(NAMES, NAMES)
def test_what_leads_out_of_the_schema_is_not_alike_to_what_stays_in_it(one: str, two: str) -> None:
    def pointing(to: str, schema: str) -> Plan:
        facts = {"foreign_keys": KEY.format(to=to)}
        return replace(plan(schema), facts=facts)

    inside, outside = pointing(one, one), pointing("public", two)
    assert alike_sha256(inside, SPEC) != alike_sha256(outside, SPEC)
    assert alike_sha256(inside, SPEC) == pointing("public", "public").sha256
    assert alike_sha256(outside, SPEC) == alike_sha256(pointing("public", one), SPEC)


@given(NAMES)
def test_a_name_inside_another_is_left_alone(name: str) -> None:
    text = f"{name}x x{name} {name}_1 ${name} {name}$"
    found = replace(plan(name), facts={"said": text})
    assert alike(found, SPEC)["facts"]["said"] == text


def test_a_name_that_needs_quotes_is_found_in_them() -> None:
    found = replace(
        plan("Tenant 1"), facts={"default": "nextval('\"Tenant 1\".numbers'::regclass)"}
    )
    assert alike(found, SPEC)["facts"]["default"] == "nextval('\"public\".numbers'::regclass)"
