"""The command `python -m bench`: the runbook beside what would be used instead of it."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import bounds, contest, rehearsal, review, scale, table
from bench.application import ApplicationFailed
from bench.contest import Contestant, ContestantFailed, Measured
from bench.database import DISTRIBUTIONS, SETTINGS, Databases, temporary_server
from bench.results import Setup, save
from bench.way import JOBS, MODES, WRITERS, Way, ways
from runbook.errors import RunbookError

ROWS = 1_000_000


def main() -> int:
    """Run the benchmark; return 1 if end states differ or a bound is missed."""
    given = _arguments()
    try:
        settings = {**SETTINGS, **dict(given.server_setting)}
        with temporary_server(given.pg, settings) as (databases, programs):
            version = databases.one("postgres", "SELECT current_setting('server_version')")
            _say(f"PostgreSQL {version} from {programs}")
            setup = Setup(
                rows=given.rows,
                distribution=given.distribution,
                server_version=version,
                mode=given.mode,
                settings=settings,
            )
            chosen = ways(setup.mode, jobs=given.jobs, writers=given.writers)
            if given.rehearse:
                return rehearsal.compare(databases, setup, chosen[0])
            if given.review:
                return review.compare(databases, setup, chosen[0])
            if given.scale:
                misses = scale.compare(
                    databases,
                    None if given.alone else programs,
                    setup,
                    chosen,
                    say=_say,
                )
            else:
                misses = _contest(databases, programs, setup, chosen)
            return 1 if misses else 0
    except (ApplicationFailed, ContestantFailed, RunbookError) as error:
        _say(str(error))
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default {ROWS:,}")
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    parser.add_argument(
        "--distribution",
        choices=tuple(DISTRIBUTIONS),
        default="real",
        help="real: 93 %% of the rows have one label (default); even: none has more than 40 %%",
    )
    parser.add_argument(
        "--mode",
        choices=("all", *MODES),
        default="all",
        help="which of the runbook's modes; online is idle, then with an application that writes",
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help=f"online: backfill in so many; default {JOBS}"
    )
    parser.add_argument(
        "--writers",
        type=float,
        default=WRITERS,
        metavar="RATE",
        help=f"transactions a second that the application writes; default {WRITERS:g}",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--scale",
        action="store_true",
        help="only measure how the cost grows: on a hundredth of ROWS, a tenth, and ROWS",
    )
    only.add_argument(
        "--rehearse",
        action="store_true",
        help="only compare a rehearsal's estimate, on a tenth of ROWS, with what ROWS take",
    )
    only.add_argument(
        "--review",
        action="store_true",
        help="only measure a review, and compare its estimate with what the migration takes",
    )
    parser.add_argument(
        "--alone", action="store_true", help="with --scale: without the plan's SQL and the floor"
    )
    parser.add_argument(
        "--server-setting",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the server, which is otherwise as initdb leaves it",
    )
    given = parser.parse_args()
    if given.rows < scale.LEAST_ROWS:
        parser.error(f"--rows must be {scale.LEAST_ROWS:,} or more")
    if given.alone and not given.scale:
        parser.error("--alone is about what --scale measures: give it, too")
    if (given.rehearse or given.review) and given.mode == "all":
        given.mode = "atomic"
    return given


def _setting(given: str) -> tuple[str, str]:
    """Return name and value of a server's setting."""
    name, separator, amount = given.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("give NAME=VALUE")
    return name, amount


def _contest(
    databases: Databases, programs: Path, setup: Setup, chosen: Sequence[Way]
) -> list[str]:
    """Run all contestants on the same rows; print and keep what they took, return what was missed.

    The plan's SQL, Alembic and the floor run on an idle table: they would lock an application out.
    """
    _say(f"loading {setup.rows:,} rows …")
    databases.make_template(setup.rows, setup.distribution)
    contestants: dict[str, Contestant] = {
        "the plan's SQL by psql": contest.plan_sql(programs),
        "the same through Alembic": contest.alembic,
        "the floor, written by hand": contest.floor(programs),
        **{f"the runbook, {way}, with proof and checks": contest.runbook(way) for way in chosen},
    }
    measured = []
    for name, run in contestants.items():
        _say(f"running {name} …")
        measured.append(run(databases))
    print(f"\n{setup.rows:,} rows ({setup.distribution}) on PostgreSQL {setup.server_version}\n")
    print(table.comparison(measured))
    plan, _, floor, *runbooks = measured
    for one in runbooks:
        print(f"\nwhere the time went: {one.name}\n\n{table.profile(one)}\n")
        for part in table.online(one):
            print(f"{part}\n")
    misses = _compared(measured) + bounds.told(
        bound
        for one, way in zip(runbooks, chosen, strict=True)
        for bound in bounds.of(setup, plan, floor, one, way)
    )
    save(setup, {"contestants": [asdict(one) for one in measured]}, misses)
    return misses


def _compared(measured: list[Measured]) -> list[str]:
    """Print the end states; return what differs. An application that wrote has its own."""
    first, *others = [one for one in measured if not one.application]
    differs = [one.name for one in others if one.categories != first.categories]
    counts = ", ".join(f"{label} {n:,}" for label, n in first.categories.items())
    verdict = f"DIFFERENT in {', '.join(differs)}" if differs else f"the same in {len(others) + 1}"
    print(f"categories: {counts}: {verdict}")
    return [f"the categories of {name} differ" for name in differs]


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
