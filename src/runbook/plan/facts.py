"""The facts that a plan rests on, as the plain data that its hash covers, and back again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from runbook.facts import Catalog, Table, TypeFacts
from runbook.plan.model import hashed


def plan_facts(table: Table, types: Mapping[str, TypeFacts]) -> dict[str, object]:
    """Return the facts that the plan rests on and its hash covers."""
    return {
        "table": hashed(table),
        "types": {name: hashed(type_) for name, type_ in types.items()},
    }


def as_planned(catalog: Catalog, facts: Mapping[str, Any]) -> Catalog:
    """Return the catalog with table and types as a plan had them, which may have been carried out
    since. What the hash does not cover is unknown then, and stands as nothing."""
    unknown = {"oid": 0, "owner": "", "heap_bytes": 0, "index_bytes": 0, "row_estimate": 0}
    table = TypeAdapter(Table).validate_python(
        {**unknown, "row_security_active": False, **facts["table"]}
    )
    types = {
        name: TypeAdapter(TypeFacts).validate_python({"owned": True, **content})
        for name, content in facts["types"].items()
    }
    return replace(catalog, table=table, types=types)
