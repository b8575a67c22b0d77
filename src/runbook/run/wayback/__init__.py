"""The way back: an applied run is undone by its recorded plan, once that was made again."""

from runbook.run.wayback.hand_set import HandSet
from runbook.run.wayback.obstacles import obstacles
from runbook.run.wayback.proof import Comparison
from runbook.run.wayback.taking_back import TakingBack
from runbook.run.wayback.undo import Undone
from runbook.run.wayback.view import serving

__all__ = [
    "Comparison",
    "HandSet",
    "TakingBack",
    "Undone",
    "obstacles",
    "serving",
]
