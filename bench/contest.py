"""The contest: each contestant on a copy of its own, measured alike."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.application import writing
from bench.database import COMMONEST, Databases, Sizes
from bench.way import Way

_HERE = Path(__file__).parent
_COPY = "contestant"


class ContestantFailed(Exception):
    """A contestant's process ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one contestant took."""

    name: str
    seconds: float
    """From the start of its process to the end."""
    database_s: float
    """The database's part: without the client's start and imports."""
    proof_s: float
    """What of it were the runbook's scans for the proof; 0 online, where each batch proves itself
    and the whole table is counted beside the backfill and the index."""
    locked_s: float
    """The longest that a lock could block the application."""
    wal_bytes: int
    """Of the whole server: what an application wrote meanwhile is among it."""
    before: Sizes
    after: Sizes
    peak_bytes: int | None
    """The client's."""
    client_cpu_s: float
    categories: dict[str, int]
    profile: dict[str, Any] = field(default_factory=dict)
    """What the runbook says of its own steps; empty for the others."""
    application: dict[str, Any] = field(default_factory=dict)
    """What came of the application's writes; empty where none wrote."""

    def steps(self) -> dict[str, float]:
        """Return milliseconds by step; of the change, by statement, or online, where several run at
        once, by phase."""
        steps: dict[str, float] = dict(self.profile["timings_ms"])
        whole = steps.pop("apply")
        online = self.profile["online"]
        parts = (
            {f"apply: {one['phase']}": one["ms"] for one in online["phases"]}
            if online
            else {
                f"apply: {one['title']}": one["duration_ms"] for one in self.profile["statements"]
            }
        )
        rest = whole - sum(parts.values())
        return steps | parts | {"apply: ledger, commit and the rest": rest}

    @property
    def proof_share(self) -> float:
        """The proof's part of the database work."""
        return self.proof_s / self.database_s

    @property
    def heap_growth(self) -> float:
        """How much the heap grew, as a part of what it was."""
        return self.after.heap_bytes / self.before.heap_bytes - 1

    @property
    def index_growth(self) -> float:
        """How much all indexes grew, as a part of what they were."""
        return self.after.index_bytes / self.before.index_bytes - 1


@dataclass(frozen=True)
class _Ended:
    """A process that ended well."""

    output: str
    started_at: float
    """Seconds since the epoch."""
    seconds: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a contestant says of itself; the fields are those of `Measured`."""

    database_s: float
    locked_s: float
    peak_bytes: int | None
    proof_s: float = 0.0
    profile: dict[str, Any] = field(default_factory=dict)


Contestant = Callable[[Databases], Measured]
"""Runs on a fresh copy. Raises `ContestantFailed` if it, or a check of it, fails."""


def plan_sql(programs: Path) -> Contestant:
    """Return the plan's SQL by psql in one transaction, then its verification queries."""
    return _by_psql(
        "plan's SQL", programs, _HERE / "plan.sql", f"--file={_HERE / 'plan_verification.sql'}"
    )


def floor(programs: Path) -> Contestant:
    """Return the SQL that is written by hand for this table, by psql in one transaction."""
    return _by_psql("floor", programs, _HERE / "floor.sql", f"--set=label={COMMONEST}")


def alembic(databases: Databases) -> Measured:
    """Run the plan's own migration as an Alembic revision, then its verification queries."""
    command = [sys.executable, "-m", "bench.by_alembic", databases.conninfo(_COPY)]
    return _measure(databases, "Alembic", command, lambda ended: _Told(**json.loads(ended.output)))


def runbook(way: Way) -> Contestant:
    """Return the runbook's database work, beside an application where one shall write."""

    def run(databases: Databases) -> Measured:
        command = [sys.executable, "-m", "bench.worker", databases.conninfo(_COPY)]
        command += [f"--mode={way.mode}", f"--jobs={way.jobs}"]
        return _measure(databases, str(way), command, _told_by_worker, writers=way.writers)

    return run


def _by_psql(name: str, programs: Path, file: Path, *more: str) -> Contestant:
    """Return a file run by psql in one transaction; `more` are further options."""
    # The shell's parent is psql, and its peak is known only while it lives.
    peak = "\\! grep VmHWM /proc/$PPID/status 2>/dev/null || true"

    def run(databases: Databases) -> Measured:
        command: list[str | Path] = [
            programs / "psql",
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            f"--dbname={databases.conninfo(_COPY)}",
            "--command=BEGIN",
            f"--file={file}",
            "--command=COMMIT",
            "--command=\\echo committed `date +%s.%N`",
            *more,
            f"--command={peak}",
        ]
        return _measure(databases, name, command, _told_by_psql)

    return run


def _measure(
    databases: Databases,
    name: str,
    command: Sequence[str | Path],
    read: Callable[[_Ended], _Told],
    *,
    writers: float = 0,
) -> Measured:
    """Make a copy, run the command on it, and measure; `read` reads what it printed."""
    with databases.copied(_COPY):
        before, wal_before = databases.sizes(_COPY, "enrichment_logs"), databases.wal_position()
        with writing(databases.conninfo(_COPY), writers) as application:
            ended = _run(command)
        wal_after, after = databases.wal_position(), databases.sizes(_COPY, "llama_logs")
        categories = databases.categories(_COPY)
    return Measured(
        name=name,
        seconds=ended.seconds,
        wal_bytes=wal_after - wal_before,
        before=before,
        after=after,
        client_cpu_s=ended.cpu_s,
        categories=categories,
        application=application,
        **vars(read(ended)),
    )


def _told_by_psql(ended: _Ended) -> _Told:
    peak = re.search(r"VmHWM:\s+(\d+) kB", ended.output)
    committed = re.search(r"committed ([0-9.]+)", ended.output)
    assert committed is not None
    return _Told(
        database_s=ended.seconds,
        locked_s=float(committed[1]) - ended.started_at,
        peak_bytes=int(peak[1]) * 1024 if peak else None,
    )


def _told_by_worker(ended: _Ended) -> _Told:
    profile = json.loads(ended.output)
    if profile["failed"]:
        raise ContestantFailed(f"These checks failed: {', '.join(profile['failed'])}.")
    return _Told(
        database_s=sum(profile["timings_ms"].values()) / 1000,
        locked_s=profile["locked_ms"] / 1000,
        peak_bytes=profile["peak_bytes"],
        proof_s=sum(
            one["duration_ms"] / 1000
            for one in profile["statements"]
            if one["phase"] == "atomic" and one["role"].startswith("tally")
        ),
        profile=profile,
    )


def _run(command: Sequence[str | Path]) -> _Ended:
    """Run a process to its end; its standard error is ours."""
    started_at, started = time.time(), time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ContestantFailed(f"{command[0]} ended with exit code {process.returncode}.")
    return _Ended(output, started_at, seconds, usage.ru_utime + usage.ru_stime)
