"""Verification: the checks, asked right after the run or at any later time."""

from runbook.verify.checks import Present, count_now, expected_of, verify

__all__ = ["Present", "count_now", "expected_of", "verify"]
