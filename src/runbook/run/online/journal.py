"""What an online run notes of itself: phases, tries for a lock, batches, and whom it held up."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from runbook.run.course import Executed, milliseconds
from runbook.run.holders import Blocker
from runbook.vocabulary import Phase

SAMPLES = 400
"""How many points of the batches' course are kept: memory does not grow with the rows."""


@dataclass(frozen=True, kw_only=True)
class LockTry:
    """One try for the lock of a transaction; times in milliseconds."""

    phase: str
    at: str
    waited_ms: float
    held_ms: float
    """0 where it was not to be had."""
    got: bool
    blockers: tuple[Blocker, ...] = ()


@dataclass
class Sample:
    """Batches that ended in the same stretch of time."""

    ended_s: float
    """Seconds since the backfill began."""
    batches: int
    blocks: int
    rows: int
    longest_ms: float
    busy_ms: float


@dataclass
class Journal:
    """Notes what happens; several threads write into it."""

    resumed: dict[str, Any] | None = None
    """How far the run was when it was resumed: run_id, started_at, started_by, phase, blocks_done,
    blocks, rows."""
    executed: list[Executed] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)
    lock_tries: list[LockTry] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    pauses: dict[str, float] = field(default_factory=dict)
    """Milliseconds that the backfill paused, by reason."""
    longest_block_ms: float = 0.0
    """The longest that a session was seen waiting for a lock of the run."""
    blocked_sessions: int = 0
    """The most sessions that were seen waiting for it at once."""
    _stretch: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _began: float = field(default_factory=time.monotonic)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Time a phase."""
        entry: dict[str, Any] = {"phase": phase.value, "started_at": now(), "ms": None}
        self.phases.append(entry)
        began = time.monotonic()
        try:
            yield
        finally:
            entry["ms"] = milliseconds(time.monotonic() - began)

    def begin_backfill(self) -> None:
        """Start the batches' clock."""
        self._began = time.monotonic()

    def batch(self, blocks: int, rows: int, took_ms: float) -> None:
        """Note a batch. Where there are too many points, neighbours become one."""
        with self._lock:
            ended = round(time.monotonic() - self._began, 3)
            last = self.samples[-1] if self.samples else None
            if last is not None and last.batches < self._stretch:
                last.ended_s, last.batches = ended, last.batches + 1
                last.blocks, last.rows = last.blocks + blocks, last.rows + rows
                last.longest_ms = max(last.longest_ms, took_ms)
                last.busy_ms = round(last.busy_ms + took_ms, 3)
                return
            self.samples.append(Sample(ended, 1, blocks, rows, took_ms, took_ms))
            if len(self.samples) > SAMPLES:
                self.samples = [
                    _merged(self.samples[n : n + 2]) for n in range(0, len(self.samples), 2)
                ]
                self._stretch *= 2

    def blocked(self, sessions: int, longest_ms: float) -> None:
        """Note how many sessions wait for a lock of the run, and how long the first has."""
        self.blocked_sessions = max(self.blocked_sessions, sessions)
        self.longest_block_ms = max(self.longest_block_ms, round(longest_ms, 3))

    @property
    def locked_ms(self) -> float:
        """The longest that a lock of the run could block the application: waiting for it, since
        others queue behind, and holding it."""
        return max((one.waited_ms + one.held_ms for one in self.lock_tries), default=0.0)

    def content(self) -> dict[str, Any]:
        """Return the notes as plain data."""
        return {
            "resumed": self.resumed,
            "phases": list(self.phases),
            "lock_tries": [asdict(one) for one in self.lock_tries],
            "batches": [asdict(one) for one in self.samples],
            "pauses_ms": dict(self.pauses),
            "longest_block_ms": self.longest_block_ms,
            "blocked_sessions": self.blocked_sessions,
        }


def _merged(samples: list[Sample]) -> Sample:
    return Sample(
        ended_s=samples[-1].ended_s,
        batches=sum(one.batches for one in samples),
        blocks=sum(one.blocks for one in samples),
        rows=sum(one.rows for one in samples),
        longest_ms=max(one.longest_ms for one in samples),
        busy_ms=round(sum(one.busy_ms for one in samples), 3),
    )


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
