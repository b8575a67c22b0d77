"""Recorded plans: what the ledger says was to be run, and whether that may be run.

What stands in a ledger is data. A plan and its hash side by side in one row prove nothing: whoever
can write the one can write the other. So a recorded plan is run only where this program makes the
same statements again, from the spec at hand and the facts that are recorded with it; or where
somebody else vouches for its hash.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from pydantic import TypeAdapter

from runbook.errors import RefusedError, Stopped
from runbook.facts import Catalog, Census, Grant, Server, Table
from runbook.plan.build import build_plan
from runbook.plan.difference import plan_differences
from runbook.plan.facts import as_planned
from runbook.plan.model import Options, Plan, canonical, sha256_of
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role, Statement

Vouch = Callable[[str], bool]
"""Returns whether somebody vouches for a plan of that hash."""

ALTERED = (KeyError, TypeError, ValueError, AttributeError, AssertionError, RecursionError)
"""What reading data raises that was made by nobody's program."""


def believed_plan(
    recorded: Mapping[str, Any], sha256: str, spec: Spec, *, run: str, vouched: Vouch
) -> Plan:
    """Return the recorded plan of a run, which may be run.

    `recorded` is the plan as plain data, `sha256` the hash that stands beside it, `run` names the
    run in errors. Raises `RefusedError`, which says what was found, where it is not what was
    hashed, or is not what this program makes of the spec and nobody vouches for it.
    """
    try:
        plan, found = Plan.of(recorded), sha256_of(recorded)
    except ALTERED as error:
        raise RefusedError(
            f"The plan of {run} cannot be read: it was altered in the ledger, or another version "
            "of the runbook made it.",
            "Nothing of it was run. Take the run back with the version that made it.",
        ) from error
    if found != sha256:
        raise RefusedError(
            f"The plan of {run} has the hash {found}, and stands in the ledger as {sha256}: it was "
            "altered there.",
            "Nothing of it was run. The archived report of that run has the statements as they "
            "were: its plan.sql ends with the way back.",
        )
    own = remade(plan, spec)
    if own is not None and own.sha256 == found:
        return own
    if vouched(found):
        return plan
    raise RefusedError(
        f"The plan of {run}, as the ledger has it, is not what this version of the runbook makes "
        f"of {spec.name!r}: {_difference(plan, own)}.",
        "Nothing of it was run. Give the spec that it was made from, and with --reports the "
        "archive that has its report; or name the hash that stands in that report: "
        f"--approved-plan HASH. If that is not {found[:12]}…, the ledger was altered.",
    )


def remade(plan: Plan, spec: Spec) -> Plan | None:
    """Return the plan that this program makes of a spec and a recorded plan's facts and inputs, or
    None where these are not such."""
    try:
        catalog, options = _inputs(plan)
        own = build_plan(spec, catalog, options)
    except ALTERED:
        return None
    named = (own.migration, own.schema, own.table_before, own.table_after)
    if named != (plan.migration, plan.schema, plan.table_before, plan.table_after):
        return None
    if _holds_additions(own):
        return None
    # Whose code was trusted is said of the run, and changes none of its statements.
    trusted = plan.facts.get("owner_code", [])
    return replace(own, facts={**own.facts, "owner_code": trusted})


def _holds_additions(plan: Plan) -> bool:
    """Return whether a plan's facts, which are those of the table before it, have what it adds."""
    return any(
        item["name"] in names
        for kind, names in plan.adds.items()
        for item in plan.facts["table"].get(kind, ())
    )


def batches_of_newer_partitions(plan: Plan, spec: Spec, table: Table) -> tuple[Statement, ...]:
    """Return the batches for the leaf partitions that a table has by now and the plan does not
    know, as the plan would have them. Raises `Stopped` where there can be none."""
    known = {one.table for one in plan.statements if one.role is Role.BATCH}
    newer = [leaf for leaf in table.leaves if known and leaf not in known]
    if not newer:
        return ()
    rowless = [one for one in table.partitions if one.kind not in "rp"]
    if rowless:
        raise Stopped(
            f"Partition {rowless[0].schema}.{rowless[0].name} has come since the run began, and "
            "its rows are elsewhere.",
            "Detach it for the time of the migration.",
        )
    try:
        catalog, options = _inputs(plan)
        assert catalog.table is not None
        whole = replace(catalog.table, partitions=table.partitions)
        made = build_plan(spec, replace(catalog, table=whole), options)
    except ALTERED as error:
        names = ", ".join(".".join(leaf) for leaf in newer)
        raise Stopped(
            f"Partition {names} has come since the run began, and its plan does not say how its "
            "rows are classified: another version of the runbook made it.",
            "Detach it for the time of the migration.",
        ) from error
    return tuple(
        one
        for one in made.of_phase(Phase.BACKFILL)
        if one.role in {Role.BATCH, Role.REDO} and one.table in newer
    )


def _inputs(plan: Plan) -> tuple[Catalog, Options]:
    """Return what a plan was made from, as far as its statements rest on it. Raises what reading
    such data raises where it is none."""
    given = plan.inputs
    options = TypeAdapter(Options).validate_python({**given["options"], "mode": plan.mode})
    server = {**_UNKNOWN} | {name: given["server"][name] for name in ("version_number", "user")}
    catalog = Catalog(
        server=TypeAdapter(Server).validate_python(server),
        ledger_schema=plan.ledger_schema,
        table=None,
        relations={},
        types={},
        missing_privileges=(),
        census=TypeAdapter(Census).validate_python(
            {"columns": (), "groups": (), "rules": (), **given["census"]}
        ),
        ledger_problem="",
        applied=None,
    )
    planned = as_planned(catalog, plan.facts)
    assert planned.table is not None
    unhashed = {name: given["table"][name] for name in ("owner", "heap_bytes", "index_bytes")}
    grants = TypeAdapter(tuple[Grant, ...]).validate_python(given["table"]["grants"])
    return replace(planned, table=replace(planned.table, grants=grants, **unhashed)), options


_UNKNOWN: Mapping[str, Any] = {
    "server_version": "",
    "name": "",
    "host": "",
    "port": None,
    "system_identifier": None,
    "is_superuser": False,
    "sees_others": True,
    "read_only": False,
}


def _difference(plan: Plan, own: Plan | None) -> str:
    """Return the first difference in words."""
    if own is None:
        with suppress(*ALTERED):
            if _holds_additions(plan):
                return "its facts, which are those of the table before it, hold what it adds itself"
        return "its facts are not such that a plan could be made from them and the spec"
    before, after = (_plain(one) for one in (own, plan))
    found = plan_differences(before, after)
    return found[0] if found else "its statements are others"


def _plain(plan: Plan) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(canonical(asdict(plan)))
    return content
