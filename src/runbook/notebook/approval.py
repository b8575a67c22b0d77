"""Whether a plan is the one that was approved, by whom, and where it differs from that one."""

from dataclasses import asdict

from runbook.archive.approval import approvals, reviewed_plan, why_not
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
        store = open_store(parameters.reports)
        for sha256, approval in approvals(store):
            if sha256 == plan:
                reason = why_not(store, approval, trusted)
                if not reason:
                    return approval
                refused = refused or reason.rstrip(".")
    except ArchiveError as error:
        refused = f"the archive cannot be read ({error.reason})"
    if parameters.require_approval:
        found = refused or "there is no approval of it"
        raise NotApproved(plan=plan, reports=parameters.reports, found=found)
    return None


def newest_approved(parameters: MigrateParameters, migration: str) -> str | None:
    """Return the plan that was approved last for a migration, by the archive."""
    try:
        store = open_store(parameters.reports)
        found = store.bundles()
        return next(
            (
                sha256
                for sha256, approval in approvals(store)
                if found[approval.bundle].content.get("migration") == migration
            ),
            None,
        )
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
