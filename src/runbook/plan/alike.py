"""Plans that are alike: the same but for the name of the schema that they are for.

Of a thousand tenants with a schema each, every plan names another schema, and so has another hash.
A person approves one: what it would be in the schema that the spec names.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from runbook.plan.model import Plan, sha256_of
from runbook.spec import Spec


def alike(plan: Plan, spec: Spec) -> dict[str, Any]:
    """Return a plan, as plain data, as it would be for the schema that the spec itself names.

    The schema's name is replaced wherever it stands as an identifier, in facts and statements, and
    the spec's own, where another schema's plan speaks of that, by a mark that is no name: a key
    that leads into the tenant's schema is not alike to one that leads out of it. So two plans that
    are the same afterwards are the same but for the schema. A schema whose name has to be quoted
    everywhere may differ from one whose name has not.
    """
    content = asdict(plan)
    if plan.schema != spec.schema_:
        others = {plan.schema: spec.schema_, spec.schema_: f"<the other {spec.schema_}>"}
        content = _renamed(content, _identifiers(others), others)
    return content | {"spec_sha256": spec.sha256}


def alike_sha256(plan: Plan, spec: Spec) -> str:
    """Return the hash of a plan as it would be for the schema that the spec itself names."""
    return sha256_of(alike(plan, spec))


def _identifiers(names: Iterable[str]) -> re.Pattern[str]:
    """Return what finds names as PostgreSQL writes them: quoted, or as words of their own."""
    kinds = []
    for name in names:
        doubled = name.replace('"', '""')
        kinds.append(rf'"(?:{re.escape(doubled)})"|(?<![\w$"]){re.escape(name)}(?![\w$"])')
    return re.compile("|".join(kinds))


def _renamed(fact: Any, identifiers: re.Pattern[str], names: Mapping[str, str]) -> Any:
    """Return plain data with identifiers replaced in every text."""

    def other(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith('"') and text not in names:
            return f'"{names[text[1:-1].replace(chr(34) * 2, chr(34))]}"'
        return names[text]

    if isinstance(fact, str):
        return identifiers.sub(other, fact)
    if isinstance(fact, Mapping):
        return {
            _renamed(key, identifiers, names): _renamed(item, identifiers, names)
            for key, item in fact.items()
        }
    if isinstance(fact, list | tuple):
        return type(fact)(_renamed(item, identifiers, names) for item in fact)
    return fact
