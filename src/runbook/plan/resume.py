"""The plan of an online run that was stopped: as it was recorded, never made anew."""

from runbook.errors import RefusedError
from runbook.facts import Unfinished
from runbook.plan.model import Mode, Plan
from runbook.spec import Spec


def resumed_plan(spec: Spec, unfinished: Unfinished, mode: Mode) -> Plan:
    """Return the recorded plan. Raises `RefusedError` where it is not this spec's, or cannot go on
    in the wanted mode, or is not what was hashed when it began."""
    table = f"{unfinished.table_schema}.{unfinished.table_before}"
    if (unfinished.migration, unfinished.spec_sha256) != (spec.name, spec.sha256):
        same = unfinished.migration == spec.name
        what = f"an earlier text of spec {spec.name!r}" if same else repr(unfinished.migration)
        raise RefusedError(
            f"An online run of {what} on {table} is unfinished.",
            "Nothing was changed. Resume it with the spec that it began with, or take it back with "
            "`runbook rollback`.",
        )
    if mode == "atomic":
        raise RefusedError(
            f"An online run on {table} is unfinished (run {unfinished.run_id}).",
            "Nothing was changed. Leave out --mode atomic to resume it, or take it back with "
            "`runbook rollback`.",
        )
    plan = Plan.of(unfinished.plan)
    if plan.sha256 != unfinished.plan_sha256:
        raise RefusedError(
            f"The plan of the unfinished run on {table} has the hash {plan.sha256}, and began as "
            f"{unfinished.plan_sha256}: it was altered in the ledger, or another version of the "
            "runbook made it.",
            "Nothing was changed. Go on with the version that began it, or take it back with "
            "`runbook rollback`.",
        )
    return plan
