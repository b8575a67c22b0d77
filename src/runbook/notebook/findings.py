"""Findings and the inventory as a person sees them, and how a blocker ends a run."""

from runbook.errors import BlockedError
from runbook.lint import Remark
from runbook.plan import blockers
from runbook.plan.inventory import Entry
from runbook.report import html
from runbook.vocabulary import Finding

SHOWN_CHARACTERS = 90
"""Of a longer definition the inventory shows the beginning."""


def as_table(findings: tuple[Finding, ...]) -> html.Fragment:
    """Return the findings as a table."""
    return html.table(
        ["level", "finding", "what was found, and why it matters", "what to do"],
        [
            (
                f.level.value,
                (f.code, html.Aside(f.object)),
                (f.message, html.Aside(f.why)),
                f.remedy,
            )
            for f in findings
        ],
    )


def as_inventory(entries: tuple[Entry, ...]) -> html.Fragment:
    """Return the inventory as a table; what is told of an object unfolds where it is long."""
    return html.table(
        ["what", "name", "definition", "in this migration"],
        [(one.kind, one.name, _told(one.detail), one.fate) for one in entries],
    )


def as_remarks(found: tuple[Remark, ...]) -> html.Fragment:
    """Return what the linter says, with our answers."""
    return html.table(
        ["squawk's rule", "what it says", "about", "our answer"],
        [
            (
                one.rule,
                one.message,
                one.statements[0]
                if len(one.statements) == 1
                else (one.statements[0], html.Aside(f"and {len(one.statements) - 1:,} more")),
                one.answer or "none yet: read it",
            )
            for one in found
        ],
    )


def _told(detail: str) -> object:
    """Return a definition as code, behind its beginning where it is long."""
    if not detail:
        return None
    if len(detail) <= SHOWN_CHARACTERS:
        return html.Code(detail)
    return html.Folded(f"{detail[:SHOWN_CHARACTERS]}…", html.Code(detail))


def stop_at_blockers(findings: tuple[Finding, ...]) -> None:
    """Raise `BlockedError` with the first blocker, if there is one."""
    forbidding = blockers(findings)
    if forbidding:
        others = len(forbidding) - 1
        more = f" It is the first of {others + 1} blockers." if others else ""
        raise BlockedError(
            forbidding[0].message, f"Nothing was changed. {forbidding[0].remedy}{more}"
        )
