"""The pace of a backfill: batches as long as wanted, and pauses while the server is behind."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook.run.online.journal import Journal

FIRST_PAGES, MOST_PAGES = 64, 16_384


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a person may choose about the pace of an online run."""

    jobs: int = 1
    """Connections that backfill at once."""
    batch_ms: int = 50
    """How long a batch should take: the rows that it updates are locked for so long."""
    max_lag_ms: int = 10_000
    """The backfill pauses while a replica replays later than this; 0 is no limit."""
    max_unarchived: int = 64
    """It pauses while more WAL segments than these wait to be archived; 0 is no limit."""
    max_active: int = 0
    """It pauses while more sessions than these are active; 0 is no limit."""
    max_wait_ms: int = 300_000
    """How long others may hold the run up at one place before it stops."""


@dataclass
class Pages:
    """How many pages the next batch takes."""

    target_ms: float
    pages: float = FIRST_PAGES

    def took(self, ms: float) -> None:
        """Adapt to what a batch took, at most by half or twice."""
        factor = min(2.0, max(0.5, self.target_ms / max(ms, 0.1)))
        self.pages = min(MOST_PAGES, max(1.0, self.pages * factor))


@dataclass
class Pace:
    """Whether the workers may go on; the watching thread decides, they ask."""

    limits: Limits
    journal: Journal
    reason: str = ""
    """Why it pauses now, or ''."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)
    _written: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=4_000))
    """When how much WAL was written: by it a replica's lag is known that replays nothing at all."""
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._open.set()

    def may_go_on(self) -> bool:
        """Wait while there is a pause; return False where the run is to stop."""
        while not self.stopping.is_set():
            if self._open.wait(0.1):
                return not self.stopping.is_set()
        return False

    def look(self, connection: psycopg.Connection[Any]) -> None:
        """Ask the server whether it is behind, and pause or go on."""
        reason = self._behind(connection)
        now = time.monotonic()
        if self.reason:
            so_far = self.journal.pauses.get(_kind(self.reason), 0.0)
            self.journal.pauses[_kind(self.reason)] = round(so_far + (now - self._since) * 1000, 1)
        self.reason, self._since = reason, now
        if reason:
            self._open.clear()
        else:
            self._open.set()

    def _behind(self, connection: psycopg.Connection[Any]) -> str:
        """Return in what the server is behind, with the figure, or ''."""
        limits = self.limits
        row = connection.execute(
            _STATE, [limits.max_active > 0, limits.max_unarchived > 0]
        ).fetchone()
        assert row is not None
        written, replayed, replica, told_ms, unarchived, active = row
        lag_ms = max(told_ms or 0, self._lag_ms(written, replayed))
        if limits.max_lag_ms and lag_ms > limits.max_lag_ms:
            return f"replica {replica!r} is {lag_ms:,.0f} ms behind (limit {limits.max_lag_ms:,})"
        if limits.max_unarchived and unarchived is not None and unarchived > limits.max_unarchived:
            return f"archive: {unarchived:,} WAL segments wait (limit {limits.max_unarchived:,})"
        if limits.max_active and active is not None and active > limits.max_active:
            return f"application: {active:,} sessions are active (limit {limits.max_active:,})"
        return ""

    def _lag_ms(self, written: int, replayed: int | None) -> float:
        """Return for how long a replica has not replayed what was written, as far as was seen."""
        now = time.monotonic()
        self._written.append((now, written))
        if replayed is None or replayed >= written:
            return 0.0
        missing = [at for at, position in self._written if position > replayed]
        return (now - missing[0]) * 1000


def _kind(reason: str) -> str:
    """Return the first word of a reason, by which pauses are summed."""
    return reason.split(maxsplit=1)[0].rstrip(":")


# The server's own replay_lag is that of a replica's last reply: one that replays nothing reports
# none, and one that is caught up the last that it had. Segments are counted by their numbers in the
# names of WAL files (docs, 9.28.3): what was archived last, or else failed to be, against what is
# written now.
_STATE = """\
SELECT (pg_current_wal_lsn() - '0/0')::bigint, r.replayed, r.name, r.lag, w.unarchived, a.active
FROM (SELECT min(replay_lsn - '0/0')::bigint AS replayed,
             (array_agg(application_name ORDER BY replay_lsn))[1] AS name,
             (max(extract(epoch FROM replay_lag)) * 1000)::float8 AS lag
      FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn()) AS r,
     (SELECT CASE WHEN %s THEN count(*) END AS active FROM pg_stat_activity
      WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND application_name NOT LIKE 'runbook %%' AND datname = current_database()) AS a,
     (SELECT CASE WHEN %s AND current_setting('archive_mode') <> 'off' THEN (
          SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn) / size
                 - (('x' || lpad(substr(wal, 9, 8), 16, '0'))::bit(64)::bigint
                    * (4294967296 / size)
                    + ('x' || lpad(substr(wal, 17, 8), 16, '0'))::bit(64)::bigint)
          FROM (SELECT coalesce(last_archived_wal, last_failed_wal) AS wal FROM pg_stat_archiver)
               AS archiver,
               (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size) AS segment
          WHERE wal ~ '^[0-9A-F]{24}$'
      )::bigint END AS unarchived) AS w"""
