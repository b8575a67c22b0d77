"""Verification: the checks, asked right after the run or at any later time."""

from runbook.verify.checks import Verified, verify
from runbook.verify.rows import Counted, count_rows

__all__ = ["Counted", "Verified", "count_rows", "verify"]
