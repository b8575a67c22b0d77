"""How a fleet ended: by what became of its targets, or by what their reviews say."""

from collections.abc import Sequence

from runbook.errors import (
    BlockedError,
    ChecksFailed,
    Outcome,
    RefusedError,
    RolledBack,
    RunbookError,
    Stopped,
)
from runbook.fleet.result import LEFT, Result
from runbook.fleet.survey import Survey

_UNCHANGED = (Outcome.REFUSED.exit_code, Outcome.ROLLED_BACK.exit_code)


def failed(results: Sequence[Result], stopped: str, how_to_resume: str) -> RunbookError | None:
    """Return how a fleet failed, or None where every target is done.

    A check that failed weighs most; then that something was changed and something is left.
    """
    open_ = [one for one in results if not one.is_done]
    if not open_:
        return None
    done, tried = len(results) - len(open_), [one for one in open_ if one.outcome != LEFT]
    why = stopped or next(iter([*tried, *open_])).message
    left = f"{len(open_):,} {'is' if len(open_) == 1 else 'are'} left"
    said = f"{done:,} of {len(results):,} targets are migrated, {left}. {why}"
    if any(one.exit_code == Outcome.CHECK_FAILED.exit_code for one in open_):
        return ChecksFailed(said, f"Look at that target's report first. {how_to_resume}")
    if done or any(one.exit_code not in _UNCHANGED for one in tried):
        return Stopped(said, how_to_resume)
    if any(one.outcome == Outcome.ROLLED_BACK for one in tried):
        return RolledBack(said, "Every target is as it was.")
    return RefusedError(said, "Nothing was changed.")


def require_plans(survey: Survey, total: int) -> None:
    """Raise `BlockedError` where a target cannot be migrated as it is."""
    if survey.blocked:
        name, why = next(iter(survey.blocked.items()))
        raise BlockedError(
            f"{len(survey.blocked):,} of {total:,} targets cannot be migrated as they are; "
            f"{name}: {why}",
            "Nothing was changed. The report names the others.",
        )


def reviewed(survey: Survey) -> tuple[str, str]:
    """Return what the reviews of all targets say, and what to do next."""
    parts = []
    if survey.main:
        parts.append(f"{len(survey.main.targets):,} targets have plan {survey.main.sha256}")
    if survey.apart:
        parts.append(f"{sum(len(plan.targets) for plan in survey.apart):,} have another")
    if survey.applied:
        parts.append(f"{len(survey.applied):,} are migrated already")
    remedy = "Approve the plan by: --approved-plan HASH" if survey.main else ""
    return f"{', '.join(parts)}.", remedy
