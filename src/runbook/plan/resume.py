"""The plan of an online run that was stopped: as it was recorded, whatever the rows say by now."""

from runbook.errors import RefusedError
from runbook.facts import Unfinished
from runbook.plan.model import Mode, Plan
from runbook.plan.remade import Vouch, believed_plan
from runbook.spec import Spec


def resumed_plan(
    spec: Spec, unfinished: Unfinished, mode: Mode, *, vouched: Vouch = lambda sha256: False
) -> Plan:
    """Return the recorded plan. Raises `RefusedError` where it is not this spec's, or cannot go on
    in the wanted mode, or must not be believed."""
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
    return believed_plan(
        unfinished.plan,
        unfinished.plan_sha256,
        spec,
        run=f"the unfinished run on {table}",
        vouched=vouched,
    )
