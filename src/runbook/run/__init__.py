"""The run: a plan applied to a database."""

from runbook.run.atomic import Applied, Executed, apply_atomic
from runbook.run.tally import Proof, Tally

__all__ = ["Applied", "Executed", "Proof", "Tally", "apply_atomic"]
