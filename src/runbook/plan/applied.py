"""An applied run as the ledger has it: what its plan says as well, and what is somebody's word.

A row of the ledger is written by the run, and by whoever else may write the ledger. What can be
told from the plan is taken from there, and only as long as that is the one that was hashed.
"""

from collections.abc import Sequence

from runbook.facts import LedgerEntry
from runbook.plan.ledger import unvalidated
from runbook.plan.model import sha256_of
from runbook.plan.remade import ALTERED
from runbook.trust.ledger import may_write
from runbook.vocabulary import Finding, Level

_SAME = {
    "migration": "migration",
    "mode": "mode",
    "table_schema": "schema",
    "table_before": "table_before",
    "table_after": "table_after",
    "spec_sha256": "spec_sha256",
}
"""Columns of the ledger that say what the plan says: by the plan's names."""


def unvalidated_of(entry: LedgerEntry) -> tuple[str, ...]:
    """Return the foreign keys that were NOT VALID before a run, by the names that it left: those of
    its plan's facts; none where the row is not the plan's."""
    if altered(entry):
        return ()
    return tuple(unvalidated(entry.plan["facts"], entry.table_before, entry.table_after))


def altered(entry: LedgerEntry) -> str:
    """Return where a row of the ledger and the plan in it do not agree, in words, or ''."""
    try:
        found = sha256_of(entry.plan)
        if found != entry.plan_sha256:
            return (
                f"its plan has the hash {found[:12]}…, and the row says {entry.plan_sha256[:12]}…"
            )
        for column, name in _SAME.items():
            said, planned = getattr(entry, column), entry.plan[name]
            if said != planned:
                return f"its plan says {name} {planned!r}, and the row {said!r}"
        tuple(unvalidated(entry.plan["facts"], entry.table_before, entry.table_after))
    except ALTERED:
        return "its plan cannot be read"
    return ""


def why_unproved(entry: LedgerEntry, writers: Sequence[str]) -> str:
    """Return why a row of the ledger proves nothing by itself, in a few words, or '' where nobody
    but trusted roles can have written it."""
    what = altered(entry)
    reasons = [may_write(writers)] if writers else []
    reasons += [f"the row was altered: {what}"] if what else []
    return "; ".join(reasons)


def unproved(ledger_schema: str, what: str, why: str) -> Finding:
    """Return the finding that something is only what the ledger says."""
    return Finding(
        level=Level.WARNING,
        code="ledger-unproved",
        object=ledger_schema,
        message=f"The ledger in schema {ledger_schema} says {what}, and {why}: nothing else "
        "vouches for it.",
        remedy="Name with --reports the archive that has the report of the run; and take away the "
        "right to write the ledger from whoever does not migrate (REVOKE).",
    )
