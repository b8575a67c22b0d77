"""Online mode: short locks only, and resumable: expand → backfill → index → cutover."""

from runbook.run.online.apply import RESUME, AppliedOnline, apply_online
from runbook.run.online.contraction import contract
from runbook.run.online.journal import Journal, Sample
from runbook.run.online.pace import Limits
from runbook.run.online.undo import TakenBack, take_back

__all__ = [
    "RESUME",
    "AppliedOnline",
    "Journal",
    "Limits",
    "Sample",
    "TakenBack",
    "apply_online",
    "contract",
    "take_back",
]
