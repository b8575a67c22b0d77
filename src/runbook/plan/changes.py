"""What has changed of a table since a plan was made for it.

Facts that stand in a ledger may be anybody's. A plan that is made again of them is run, or shown,
only where they are what PostgreSQL itself says of the table: its names, and what goes into SQL as
it is printed there, a column's default for one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from runbook.facts import Grant, Table
from runbook.plan.difference import first_difference
from runbook.plan.model import Plan
from runbook.vocabulary import Phase

_NOTHING: Mapping[str, Collection[str]] = {}


def first_change(
    plan: Plan, table: Table, found: Mapping[str, Any], *, is_expanded: bool = False
) -> str:
    """Return the first difference between the facts that are `found` and the plan's, in words, or
    ''; the table is the one that they are of.

    What the plan itself adds before its last transaction is no difference; nor is a partition that
    came or went since the plan has expanded, since a new one has all of it from its parent.
    """
    # Left out of what is found alone: recorded facts that have what the plan adds are forged.
    facts = comparable(found, plan, plan.adds)
    expected = comparable(plan.facts, plan)
    if is_expanded:
        facts["table"].pop("partitions")
        expected["table"].pop("partitions")
    if facts != expected:
        return first_difference(expected, facts)
    return _lost_right(plan, table)


def _lost_right(plan: Plan, table: Table) -> str:
    """Return what the plan would give others on the view under the old name, and they have not on
    the table, in words; '' where there is no such thing. Rights that came since are no difference.
    """
    given = plan.inputs.get("table")
    if not given or not plan.of_phase(Phase.CONTRACT):
        return ""
    if given["owner"] != table.owner:
        return f"the table's owner was {given['owner']}, and is {table.owner}"
    granted = TypeAdapter(tuple[Grant, ...]).validate_python(given["grants"])
    lost = sorted(set(_rights(granted)) - set(_rights(table.grants)), key=str)
    for role, column, right, grantable in lost:
        on = f" on column {column}" if column else ""
        more = " with grant option" if grantable else ""
        return f"{role or 'PUBLIC'} had {right}{on}{more}, and has it no more"
    return ""


def _rights(grants: Iterable[Grant]) -> Iterator[tuple[str | None, str | None, str, bool]]:
    return (
        (grant.role, grant.column, right, grant.grantable)
        for grant in grants
        for right in grant.rights
    )


def comparable(
    facts: Mapping[str, Any], plan: Plan, added: Mapping[str, Collection[str]] = _NOTHING
) -> dict[str, Any]:
    """Return facts without what was added, and as they are once the plan's labels are added to
    types that exist.

    From PostgreSQL 18 on NOT NULL is a constraint and has a name; a server that is upgraded gives
    one to each column that is NOT NULL, which the columns say anyway. So such names count only
    where the plan knows them.
    """
    before = plan.facts["types"]
    labels = {tuple(before[name]["labels"]): new for name, new in plan.extended.items()}

    def extended(fact: Mapping[str, Any]) -> dict[str, Any]:
        return {**fact, "labels": list(labels.get(tuple(fact["labels"]), fact["labels"]))}

    def without(kind: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [item for item in items if item["name"] not in added.get(kind, ())]

    table = {
        kind: without(kind, fact) if kind in added else fact
        for kind, fact in facts["table"].items()
    }
    if not names_not_null(plan.facts):
        table["constraints"] = [one for one in table["constraints"] if one["kind"] != "n"]
    return {
        "owner_code": list(facts.get("owner_code", ())),
        "table": {**table, "columns": [extended(column) for column in table["columns"]]},
        "types": {
            name: extended(type_)
            for name, type_ in facts["types"].items()
            if name not in added.get("types", ())
        },
    }


def names_not_null(facts: Mapping[str, Any]) -> bool:
    """Return whether facts are of a server that has a name for a column's NOT NULL."""
    return any(one["kind"] == "n" for one in facts["table"]["constraints"])
