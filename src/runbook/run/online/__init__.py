"""Online mode: short locks only, and resumable: expand → backfill → index → cutover."""

from runbook.run.online.apply import RESUME, AppliedOnline, apply_online
from runbook.run.online.contraction import contract, drops_view, left_to_drop
from runbook.run.online.indexing import index_progress
from runbook.run.online.journal import Journal, LockTry, Sample
from runbook.run.online.pace import Limits
from runbook.run.online.undo import TakenBack, take_back

__all__ = [
    "RESUME",
    "AppliedOnline",
    "Journal",
    "Limits",
    "LockTry",
    "Sample",
    "TakenBack",
    "apply_online",
    "contract",
    "drops_view",
    "index_progress",
    "left_to_drop",
    "take_back",
]
