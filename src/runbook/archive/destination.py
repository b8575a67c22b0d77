"""Where a run is archived, made sure of before anything else is done."""

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


def prepare(reports: str) -> Destination:
    """Make sure that a run can be archived and signed. Raises `UsageError` if not."""
    return Destination(reports=reports, store=opened(reports), key=signing_key())
