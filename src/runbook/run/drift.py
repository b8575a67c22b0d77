"""Whether the database still is the one that the plan was made for, and where it differs."""

from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.catalog import (
    owner_code_of,
    read_table,
    read_table_named,
    read_types,
    read_types_named,
)
from runbook.plan import Plan, plan_facts
from runbook.plan.changes import comparable, first_change
from runbook.plan.difference import fact_differences
from runbook.spec import Spec
from runbook.vocabulary import CheckResult


def drift(
    connection: psycopg.Connection[Any], spec: Spec, plan: Plan, *, is_expanded: bool = False
) -> str:
    """Return the first difference between the database and the plan's facts, in words, or '': what
    `first_change` returns of the table as it is now."""
    table = read_table(connection, spec)
    if table is None:
        return f"table {plan.schema}.{plan.table_before} is no longer there"
    code = owner_code_of(connection, spec, plan.ledger_schema)
    found = plan_facts(table, read_types(connection, spec), code)
    return first_change(plan, table, found, is_expanded=is_expanded)


AS_BEFORE = "no difference"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How the catalog differs from the recorded one, a few words each."""

    wrong: tuple[str, ...]
    """What is gone or altered."""
    new: tuple[str, ...]
    """What came since."""

    def check(self, *, strict: bool = False) -> CheckResult:
        """Return the check that the catalog is as it was; `strict` where nothing new may be there,
        either."""
        found = "; ".join((*self.wrong, *(self.new if strict else ()))) or AS_BEFORE
        return CheckResult(
            id="catalog-as-before",
            title="Columns, constraints, indexes, triggers and types are as recorded before the "
            "run",
            sql="-- the catalog's facts, as the plan's hash covers them",
            expected=AS_BEFORE,
            observed=found,
            passed=found == AS_BEFORE,
        )


def differences(connection: psycopg.Connection[Any], plan: Plan) -> Differences:
    """Compare the database with the facts that a plan rests on, as recorded.

    Labels that the plan added to types stay; partitions come and go with the application, and those
    that are still there are compared; what another version did not record counts for nothing.
    """
    recorded = plan.facts
    with connection.transaction():
        table = read_table_named(connection, plan.schema, plan.table_before)
        types = read_types_named(connection, plan.schema, recorded["types"])
    if table is None:
        return Differences(wrong=(f"table {plan.schema}.{plan.table_before} is gone",), new=())
    before, after = (comparable(facts, plan) for facts in (recorded, plan_facts(table, types, ())))
    for facts in (before, after):
        facts.pop("owner_code")
    _keep_common_partitions(before["table"], after["table"])
    found = list(fact_differences(before, after))
    return Differences(
        wrong=tuple(what for what, is_new in found if not is_new),
        new=tuple(what for what, is_new in found if is_new),
    )


def _keep_common_partitions(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Leave the partitions that both tables have, with the facts that are recorded of them."""
    known, there = (
        {f"{one['schema']}.{one['name']}": one for one in table.pop("partitions", ())}
        for table in (before, after)
    )
    common = [name for name in known if name in there]
    before["partitions"] = {name: known[name] for name in common}
    after["partitions"] = {
        name: {key: fact for key, fact in there[name].items() if key in known[name]}
        for name in common
    }
