"""Verification: the checks, asked right after the run or at any later time."""

from runbook.verify.checks import Present, Verified, verify

__all__ = ["Present", "Verified", "verify"]
