"""Secrets: which ones a run knows, how they may be spelt, and taking them out of what it writes.

The first protection is structural and elsewhere: a database URL reaches the kernel by its
environment, so that parameters, sources and process lists hold a reference only. What stands here
is the second one, for the ways in which a password comes back: tracebacks, error messages, prints.
"""

from runbook.secrets.find import Known, find, holds_password
from runbook.secrets.scrubber import MASK, Scrubber, scrubber_for
from runbook.secrets.statement import without_literals

__all__ = [
    "MASK",
    "Known",
    "Scrubber",
    "find",
    "holds_password",
    "scrubber_for",
    "without_literals",
]
