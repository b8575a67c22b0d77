"""What the notebooks call: one object a notebook, one method a cell.

Each method does one thing to the database or none, shows what it found, and notes it in the record.
The last cell publishes the record as data; whatever fails publishes it too, so that a report of a
refused or failed run says as much as it can.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runbook import collector

if TYPE_CHECKING:
    from runbook.notebook.contraction import Contraction
    from runbook.notebook.migration import Migration
    from runbook.notebook.rehearsal import Rehearsal
    from runbook.notebook.review import Review
    from runbook.notebook.rollback import Rollback
    from runbook.notebook.verification import Verification

__all__ = ["Contraction", "Migration", "Rehearsal", "Review", "Rollback", "Verification"]


def __getattr__(name: str) -> Any:
    """Load what a notebook needs, and nothing of the others: its person waits."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    collector.spare()
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
