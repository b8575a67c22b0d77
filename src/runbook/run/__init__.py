"""The run: a plan applied to a database."""

from runbook.run.atomic import Applied, Record, apply_atomic
from runbook.run.course import Course, Executed
from runbook.run.tally import Proof, Tally

__all__ = ["Applied", "Course", "Executed", "Proof", "Record", "Tally", "apply_atomic"]
