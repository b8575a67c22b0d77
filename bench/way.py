"""How the runbook migrates in the benchmark."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["atomic", "online"]
MODES = ("atomic", "online")


@dataclass(frozen=True, kw_only=True)
class Way:
    """What is chosen about the runbook's run."""

    mode: Mode = "atomic"
    jobs: int = 1
    """Connections that backfill at once; online only."""
    writers: float = 0
    """Transactions a second of an application that writes meanwhile; online only."""
