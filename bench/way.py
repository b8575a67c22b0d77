"""How the runbook migrates in the benchmark."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["atomic", "online"]
MODES: tuple[Mode, ...] = ("atomic", "online")

JOBS = 2
WRITERS = 240.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """What is chosen about the runbook's run."""

    mode: Mode = "atomic"
    jobs: int = 1
    """Connections that backfill at once; online only."""
    writers: float = 0
    """Transactions a second of an application that writes meanwhile; online only."""

    def __str__(self) -> str:
        if self.mode == "atomic":
            return "atomic"
        return "online, busy" if self.writers else "online, idle"


def ways(mode: str, *, jobs: int = JOBS, writers: float = WRITERS) -> tuple[Way, ...]:
    """Return the ways that a mode of the benchmark means: `atomic`, `online` (idle, then with an
    application), or `all` of them."""
    online = [Way(mode="online", jobs=jobs, writers=rate) for rate in (0, writers)]
    return tuple(way for way in (Way(), *online) if mode in ("all", way.mode))
