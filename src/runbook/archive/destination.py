"""Where a run is archived, made sure of before anything else is done."""

import os
from dataclasses import dataclass

from runbook.archive.keys import SigningKey, signing_key
from runbook.archive.store import Store, opened


@dataclass(frozen=True, kw_only=True)
class Destination:
    """An archive that takes bundles."""

    reports: str
    """As the user gave it."""
    store: Store
    key: SigningKey | None
    """What the manifest is signed with."""
    pdf: bool
    """Whether the report is archived as PDF, too."""
    lists: bool = True
    """Whether the page that lists the bundles is made anew for each."""


PDF_VARIABLE = "RUNBOOK_PDF"
"""The environment variable that asks for a PDF when it is not empty."""


def prepare(reports: str, *, lists: bool = True) -> Destination:
    """Make sure that a run can be archived as it shall be. Raises `UsageError` if not."""
    pdf = bool(os.environ.get(PDF_VARIABLE))
    if pdf:
        from runbook.report.pdf import require_pdf

        require_pdf()
    return Destination(
        reports=reports, store=opened(reports), key=signing_key(), pdf=pdf, lists=lists
    )
