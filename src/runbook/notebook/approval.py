"""Whether a plan is the one that was approved, by whom, and where it differs from that one."""

from dataclasses import asdict

from runbook.archive.approval import Approved, approvals, reviewed_plan
from runbook.archive.store import ArchiveError, open_store
from runbook.errors import NotApproved, PlanDiffers
from runbook.notebook.recorded import trusted_keys
from runbook.parameters import MigrateParameters
from runbook.plan import Plan
from runbook.plan.difference import plan_differences
from runbook.record import Approval


def approval_of(plan: str, parameters: MigrateParameters) -> Approval | None:
    """Return the newest approval of a plan that counts, if the archive holds one.

    Raises `NotApproved` if one is required and there is none.
    """
    trusted, refused = trusted_keys(parameters.approver_keys), ""
    try:
        for found in approvals(open_store(parameters.reports), trusted, plan=plan):
            if isinstance(found, Approved):
                return found.approval
            refused = refused or found.why
    except ArchiveError as error:
        refused = f"the archive cannot be read ({error.reason})"
    if parameters.require_approval:
        why = refused or "there is no approval of it"
        raise NotApproved(plan=plan, reports=parameters.reports, found=why)
    return None


def newest_approved(parameters: MigrateParameters, migration: str) -> str | None:
    """Return the plan that was approved last for a migration, by an approval that counts."""
    trusted = trusted_keys(parameters.approver_keys)
    try:
        found = approvals(open_store(parameters.reports), trusted, migration=migration)
        return next((one.plan for one in found if isinstance(one, Approved)), None)
    except ArchiveError:
        return None


def differs(plan: Plan, approved: str, reports: str) -> PlanDiffers:
    """Return the refusal of a plan that is not the approved one, with what changed where the
    archive holds the review of that one."""
    try:
        before = reviewed_plan(open_store(reports), approved)
    except ArchiveError:
        before = None
    found = plan_differences(before, asdict(plan)) if before else ()
    return PlanDiffers(approved=approved, actual=plan.sha256, differences=found)
