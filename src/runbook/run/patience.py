"""Taking a strong lock without ever having the application queue for long.

Whoever waits for ACCESS EXCLUSIVE has everybody else wait behind him. So a try waits for no more
than the lock timeout; then the transaction is rolled back, nothing is held, whoever stood in the
way is noted, and after a random pause, longer each time, it is tried again.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Each pause is between half of it and one and a half times it, and twice as long as the last."""

BLOCKED = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    # A row of a batch moved to another partition meanwhile.
    psycopg.errors.SerializationFailure,
)


@dataclass
class Patience:
    """How long others may hold a run up, in all and at one place."""

    limit_s: float
    _began: float | None = None
    _pause: float = FIRST_PAUSE_S

    def pause(self, sleep: Callable[[float], object] = time.sleep) -> bool:
        """Wait before the next try; return False, at once, where there shall be none."""
        now = time.monotonic()
        self._began = self._began or now
        if now - self._began >= self.limit_s:
            return False
        sleep(self._pause * random.uniform(0.5, 1.5))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return True
