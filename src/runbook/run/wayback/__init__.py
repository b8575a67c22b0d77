"""The way back: an applied run is undone from the ledger alone, whatever the spec says by now."""

from runbook.run.wayback.hand_set import HandSet, read_hand_set
from runbook.run.wayback.obstacles import obstacles, recorded_plan, staying
from runbook.run.wayback.proof import Comparison, compare_tallies, tally
from runbook.run.wayback.undo import Undo, Undone
from runbook.run.wayback.view import serving

__all__ = [
    "Comparison",
    "HandSet",
    "Undo",
    "Undone",
    "compare_tallies",
    "obstacles",
    "read_hand_set",
    "recorded_plan",
    "serving",
    "staying",
    "tally",
]
