"""The plan of an online run that was stopped: as it was recorded, whatever the rows say by now."""

from runbook.errors import RefusedError
from runbook.facts import Catalog
from runbook.plan.changes import first_change
from runbook.plan.facts import plan_facts
from runbook.plan.model import Mode, Plan
from runbook.plan.remade import Vouch, believed_plan
from runbook.spec import Spec


def resumed_plan(
    spec: Spec, catalog: Catalog, mode: Mode, *, vouched: Vouch = lambda sha256: False
) -> Plan:
    """Return the recorded plan of the catalog's unfinished run. Raises `RefusedError` where it is
    not this spec's, or cannot go on in the wanted mode, or must not be believed, or is not for the
    table as it is."""
    unfinished, found = catalog.unfinished, catalog.table
    assert unfinished is not None and found is not None
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
    plan = believed_plan(
        unfinished.plan,
        unfinished.plan_sha256,
        spec,
        run=f"the unfinished run on {table}",
        vouched=vouched,
    )
    facts = plan_facts(found, catalog.types, catalog.owner_code)
    difference = first_change(plan, found, facts, is_expanded=True)
    if difference:
        raise RefusedError(
            f"The database changed after the plan was made: {difference}.",
            "Nothing was changed. Undo that, then run again to resume; or take the run back with "
            "`runbook rollback`.",
        )
    return plan
