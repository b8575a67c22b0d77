"""The facts that a plan rests on, as the plain data that its hash covers, and back again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter

from runbook.facts import Catalog, OwnerCode, Table, TypeFacts
from runbook.plan.model import Options, hashed


def plan_facts(
    table: Table, types: Mapping[str, TypeFacts], owner_code: Sequence[OwnerCode]
) -> dict[str, object]:
    """Return the facts that the plan rests on and its hash covers: the code of less privileged
    roles that it is trusted to run is one of them."""
    return {
        "owner_code": [str(one) for one in owner_code],
        "table": hashed(table),
        "types": {name: hashed(type_) for name, type_ in types.items()},
    }


def plan_inputs(catalog: Catalog, table: Table, options: Options) -> dict[str, Any]:
    """Return what a plan's statements rest on beyond its facts, as plain data."""
    assert catalog.census is not None
    return {
        "options": asdict(options),
        "server": {
            "version_number": catalog.server.version_number,
            "user": catalog.server.user,
        },
        "census": {
            "total": catalog.census.total,
            "predicted": dict(catalog.census.predicted),
            "group_counts": dict(catalog.census.group_counts),
        },
        "table": {
            "owner": table.owner,
            "heap_bytes": table.heap_bytes,
            "index_bytes": table.index_bytes,
            "grants": [asdict(one) for one in table.grants],
        },
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
