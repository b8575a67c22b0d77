"""Findings as a person sees them, and how they end a run."""

from runbook.errors import BlockedError
from runbook.plan import blockers
from runbook.report import html
from runbook.vocabulary import Finding


def as_table(findings: tuple[Finding, ...]) -> html.Fragment:
    """Return the findings as a table."""
    return html.table(
        ["level", "finding", "object", "what was found", "what to do"],
        [(f.level.value, f.code, f.object, f.message, f.remedy) for f in findings],
    )


def stop_at_blockers(findings: tuple[Finding, ...]) -> None:
    """Raise `BlockedError` with the first blocker, if there is one."""
    forbidding = blockers(findings)
    if forbidding:
        others = len(forbidding) - 1
        more = f" It is the first of {others + 1} blockers." if others else ""
        raise BlockedError(
            forbidding[0].message, f"Nothing was changed. {forbidding[0].remedy}{more}"
        )
