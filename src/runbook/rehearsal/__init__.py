"""The rehearsal: the plan up, down and up again on a scratch copy, each time proved and timed."""

from runbook.rehearsal.copy import Copy, Scratch, scratch
from runbook.rehearsal.estimate import Estimate, estimate
from runbook.rehearsal.legs import Leg, Rehearsing

__all__ = ["Copy", "Estimate", "Leg", "Rehearsing", "Scratch", "estimate", "scratch"]
