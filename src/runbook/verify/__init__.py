"""Verification: the checks, asked right after the run or at any later time."""

from runbook.verify.checks import expected_of, predicted_now, verify

__all__ = ["expected_of", "predicted_now", "verify"]
