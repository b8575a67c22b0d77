"""The command `python -m bench`: the runbook against the plan's own SQL on the same rows."""

import argparse
import sys
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from bench import bounds, rehearsal, review, table
from bench.application import ApplicationFailed
from bench.contest import ContestantFailed, Measured, run_plan_sql, run_runbook
from bench.database import TEMPLATE, Databases, temporary_server
from bench.results import Setup, save
from bench.way import MODES, Way
from runbook.errors import RunbookError

ROWS = 1_000_000
JOBS = 2
WRITERS = 240.0


def main() -> int:
    """Run the benchmark; return 1 if end states differ or a bound is missed."""
    arguments = _arguments()
    way = Way(mode=arguments.mode, jobs=arguments.jobs or 1, writers=arguments.writers or 0)
    try:
        with temporary_server(arguments.pg) as (databases, programs):
            version = databases.one("postgres", "SELECT current_setting('server_version')")
            _say(f"PostgreSQL {version} from {programs}")
            setup = Setup(
                rows=arguments.rows, share=arguments.share, server_version=version, way=way
            )
            if arguments.rehearse:
                return rehearsal.compare(databases, setup)
            if arguments.review:
                return review.compare(databases, setup)
            if arguments.scale:
                return _scale(databases, setup)
            return _contest(databases, programs, setup)
    except (ApplicationFailed, ContestantFailed, RunbookError) as error:
        _say(str(error))
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default {ROWS:,}")
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    parser.add_argument("--share", type=float, help="part of the rows that is ENRICHED")
    parser.add_argument("--mode", choices=MODES, help="default atomic, with --scale online")
    parser.add_argument("--jobs", type=int, help=f"online: backfill in so many; default {JOBS}")
    parser.add_argument(
        "--writers",
        type=float,
        nargs="?",
        const=WRITERS,
        metavar="RATE",
        help="online: have an application write meanwhile, so many transactions a second "
        f"({WRITERS:g} without RATE)",
    )
    parser.add_argument(
        "--scale",
        action="store_true",
        help="only compare the runbook's time and memory at a tenth of ROWS and at ROWS",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="only compare a rehearsal's estimate, on a tenth of ROWS, with what ROWS take",
    )
    parser.add_argument(
        "--review",
        action="store_true",
        help="only measure a review, and compare its estimate with what the migration takes",
    )
    arguments = parser.parse_args()
    if arguments.rows < 10 or not 0 <= (arguments.share or 0) <= 1:
        parser.error("--rows must be 10 or more, and --share between 0 and 1")
    arguments.mode = arguments.mode or ("online" if arguments.scale else "atomic")
    if arguments.mode == "atomic" and (arguments.jobs or arguments.writers):
        parser.error("--jobs and --writers are for --mode online")
    if arguments.mode == "online":
        arguments.jobs = arguments.jobs or JOBS
    return arguments


def _contest(databases: Databases, programs: Path, setup: Setup) -> int:
    """Run both contestants on the same rows, and print and keep what they took.

    The plan's SQL runs on an idle table: it would lock an application out.
    """
    _say(f"loading {setup.rows:,} rows …")
    databases.make_template(setup.rows, setup.share)
    _say("running the plan's SQL by psql …")
    plan = run_plan_sql(databases, programs)
    _say(f"running the runbook ({_said(setup.way)}), with proof and checks …")
    runbook = run_runbook(databases, setup.way)
    print(f"\n{setup.rows:,} rows on PostgreSQL {setup.server_version}, {_said(setup.way)}\n")
    print(table.comparison(plan, runbook))
    print(f"\nwhere the runbook's time went\n\n{table.profile(runbook)}\n")
    for part in table.online(runbook):
        print(f"{part}\n")
    misses = _compared(plan, runbook) + _missed(plan, runbook, setup)
    figures = {
        "time_ratio": plan.database_s / runbook.database_s,
        "wal_ratio": runbook.wal_bytes / plan.wal_bytes,
        "plan_sql": asdict(plan),
        "runbook": asdict(runbook),
    }
    save(setup, figures, misses)
    return 1 if misses else 0


def _said(way: Way) -> str:
    """Return how the runbook migrates, in words."""
    if way.mode == "atomic":
        return "atomic"
    jobs = "1 job" if way.jobs == 1 else f"{way.jobs} jobs"
    what = f"{way.writers:g} transactions a second" if way.writers else "nobody"
    return f"online, {jobs}, {what} meanwhile"


def _compared(plan: Measured, runbook: Measured) -> list[str]:
    """Print both end states; return what differs. An application that wrote has its own."""
    counts = ", ".join(f"{label} {n:,}" for label, n in runbook.categories.items())
    if runbook.application:
        print(f"categories: {counts}")
        return []
    differs = plan.categories != runbook.categories
    print(f"categories: {counts}: {'DIFFERENT' if differs else 'the same'} in both")
    return ["the categories differ"] if differs else []


def _missed(plan: Measured, runbook: Measured, setup: Setup) -> list[str]:
    """Print how the bounds were kept; return those that were not."""
    found = bounds.of_application(runbook)
    if setup.rows >= bounds.FROM_ROWS and setup.share is None:
        found = chain(bounds.of_contest(plan, runbook, setup.way), found)
    else:
        print(
            f"bounds on ratios: not applied; they hold from {bounds.FROM_ROWS:,} rows, "
            "in the real table's shares (without --share)"
        )
    return bounds.told(found)


def _scale(databases: Databases, setup: Setup) -> int:
    """Compare the runbook's time and peak memory at a tenth of the rows and at all of them."""
    measured: list[Measured] = []
    for rows in (setup.rows // 10, setup.rows):
        _say(f"running the runbook ({_said(setup.way)}) on {rows:,} rows …")
        databases.make_template(rows, setup.share)
        measured.append(run_runbook(databases, setup.way))
        databases.drop("runbook")
        databases.drop(TEMPLATE)
    print(table.scale([setup.rows // 10, setup.rows], measured))
    misses = bounds.told(bounds.of_scale(*measured))
    save(setup, {"scale": [asdict(one) for one in measured]}, misses)
    return 1 if misses else 0


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
