"""One migration of many databases: who they are, in which order, and what became of each."""

from runbook.fleet.notebook import Fleet

__all__ = ["Fleet"]
