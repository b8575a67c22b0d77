"""The command `python -m bench`: the runbook against the plan's own SQL on the same rows."""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench import table
from bench.contest import ContestantFailed, Measured, run_plan_sql, run_runbook
from bench.database import SETTINGS, TEMPLATE, Databases, temporary_server
from runbook import __version__
from runbook.errors import RunbookError

RESULTS = Path(__file__).with_name("results")

BOUNDS_FROM_ROWS = 1_000_000
"""Below this, fixed costs such as Python's start decide, and the bounds mean nothing."""

LEAST_TIME_RATIO = 8.0
MOST_HEAP_GROWTH = 0.10
MOST_MEMORY_GROWTH = 0.10


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What both contestants were given."""

    rows: int
    share: float | None
    """The part of the rows that is ENRICHED; None for the real table's."""
    server_version: str


def main() -> int:
    """Run the benchmark; return 1 if end states differ or a bound is missed."""
    arguments = _arguments()
    try:
        with temporary_server(arguments.pg) as (databases, programs):
            version = databases.one("postgres", "SELECT current_setting('server_version')")
            _say(f"PostgreSQL {version} from {programs}")
            if arguments.memory:
                return _memory(databases, arguments.rows)
            setup = Setup(rows=arguments.rows, share=arguments.share, server_version=version)
            return _contest(databases, programs, setup)
    except (ContestantFailed, RunbookError) as error:
        _say(str(error))
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=None, help="default 1,000,000")
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    parser.add_argument("--share", type=float, help="part of the rows that is ENRICHED")
    parser.add_argument(
        "--memory",
        action="store_true",
        help="only compare the client's peak memory at ROWS (default 20,000) and ten times as many",
    )
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (20_000 if arguments.memory else 1_000_000)
    if arguments.rows < 1 or not 0 <= (arguments.share or 0) <= 1:
        parser.error("--rows must be positive, and --share between 0 and 1")
    return arguments


def _contest(databases: Databases, programs: Path, setup: Setup) -> int:
    """Run both contestants on the same rows, and print and keep what they took."""
    _say(f"loading {setup.rows:,} rows …")
    databases.make_template(setup.rows, setup.share)
    _say("running the plan's SQL by psql …")
    plan = run_plan_sql(databases, programs)
    _say("running the runbook, with proof and checks …")
    runbook = run_runbook(databases)
    print(f"\n{setup.rows:,} rows on PostgreSQL {setup.server_version}\n")
    print(table.comparison(plan, runbook))
    print(f"\nwhere the runbook's time went\n\n{table.profile(runbook)}\n")
    misses = [] if plan.categories == runbook.categories else ["the categories differ"]
    counts = ", ".join(f"{label} {n:,}" for label, n in runbook.categories.items())
    print(f"categories: {counts}: {'DIFFERENT' if misses else 'the same'} in both")
    misses += _missed_bounds(plan, runbook, setup)
    _save(plan, runbook, setup, misses)
    return 1 if misses else 0


def _missed_bounds(plan: Measured, runbook: Measured, setup: Setup) -> list[str]:
    """Print how the bounds were kept; return those that were not."""
    if setup.rows < BOUNDS_FROM_ROWS or setup.share is not None:
        print(
            f"bounds: not applied; they hold from {BOUNDS_FROM_ROWS:,} rows, "
            "in the real table's shares (without --share)"
        )
        return []
    ratio = plan.database_s / runbook.database_s
    bounds = {
        f"time ratio {ratio:.1f} ≥ {LEAST_TIME_RATIO:.0f}": ratio >= LEAST_TIME_RATIO,
        f"heap growth {runbook.heap_growth:.1%} ≤ {MOST_HEAP_GROWTH:.0%}": (
            runbook.heap_growth <= MOST_HEAP_GROWTH
        ),
    }
    for bound, kept in bounds.items():
        print(f"bound: {bound}: {'kept' if kept else 'MISSED'}")
    return [bound for bound, kept in bounds.items() if not kept]


def _memory(databases: Databases, rows: int) -> int:
    """Compare the client's peak memory at `rows` and at ten times as many."""
    peaks: list[int] = []
    for count in (rows, 10 * rows):
        databases.make_template(count, None)
        measured = run_runbook(databases)
        assert measured.client_peak_bytes is not None
        peaks.append(measured.client_peak_bytes)
        print(f"{count:>12,} rows: client's peak memory {table.mb(peaks[-1])}")
        databases.drop("runbook")
        databases.drop(TEMPLATE)
    growth = peaks[1] / peaks[0] - 1
    kept = growth <= MOST_MEMORY_GROWTH
    print(f"bound: growth {growth:+.1%} ≤ {MOST_MEMORY_GROWTH:.0%}: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


def _save(plan: Measured, runbook: Measured, setup: Setup, misses: list[str]) -> None:
    """Keep the figures as JSON, with what they depend on."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    content = {
        "at": moment,
        "setup": asdict(setup),
        "versions": {
            "runbook": __version__,
            "python": platform.python_version(),
            "psycopg": psycopg.__version__,
        },
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "settings": dict(SETTINGS),
        "time_ratio": plan.database_s / runbook.database_s,
        "wal_ratio": runbook.wal_bytes / plan.wal_bytes,
        "misses": misses,
        "plan_sql": asdict(plan),
        "runbook": asdict(runbook),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{moment}-pg{setup.server_version.partition('.')[0]}-{setup.rows}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"kept in {path.relative_to(RESULTS.parents[1])}")


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
