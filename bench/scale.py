"""How the cost grows with the rows: each contestant on a hundredth, a tenth, and all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from bench import bounds, contest, table
from bench.contest import Contestant, Measured
from bench.database import TEMPLATE, Databases
from bench.results import Setup, save
from bench.way import Way

TIMES = 10
"""Each measurement has so many times the rows of the one before."""
MEASUREMENTS = 3
LEAST_ROWS = TIMES**MEASUREMENTS


def compare(
    databases: Databases,
    programs: Path | None,
    setup: Setup,
    chosen: Sequence[Way],
    *,
    say: Callable[[str], None],
) -> list[str]:
    """Measure, and print how each step of the runbook grew; return what grew faster than the rows.

    All contestants have the table for themselves. Without the `programs` of PostgreSQL the runbook
    is the only one.
    """
    contestants: dict[str, Contestant] = {}
    if programs:
        contestants["the plan's SQL"] = contest.plan_sql(programs)
        contestants["the floor"] = contest.floor(programs)
    for way in chosen:
        if not way.writers:
            contestants[f"the runbook, {way},"] = contest.runbook(way)
    found: list[list[Measured]] = [[] for _ in contestants]
    counts = [setup.rows // TIMES**n for n in reversed(range(MEASUREMENTS))]
    for rows in counts:
        say(f"loading {rows:,} rows …")
        databases.make_template(rows, setup.distribution)
        for (name, run), measured in zip(contestants.items(), found, strict=True):
            say(f"running {name} on {rows:,} rows …")
            measured.append(run(databases))
        databases.drop(TEMPLATE)
    print(f"\nPostgreSQL {setup.server_version}, {setup.distribution} distribution\n")
    print(table.growth(counts, found))
    misses: list[str] = []
    for measured in found:
        if measured[0].profile:
            misses += _steps(counts, measured)
    save(setup, {"scale": _as_data(counts, found)}, misses)
    return misses


def _steps(counts: Sequence[int], measured: Sequence[Measured]) -> list[str]:
    """Print how the runbook's steps grew each time; return the bounds that were missed."""
    misses: list[str] = []
    for (few, small), (many, large) in pairwise(zip(counts, measured, strict=True)):
        print(f"\n{large.name}, from {few:,} to {many:,} rows\n")
        print(table.scale(small, large, TIMES))
        misses += bounds.told(bounds.of_scale(small, large))
    return misses


def _as_data(counts: Sequence[int], found: Sequence[Sequence[Measured]]) -> Mapping[int, object]:
    return {rows: [asdict(measured[n]) for measured in found] for n, rows in enumerate(counts)}
