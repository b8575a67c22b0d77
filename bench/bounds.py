"""What the benchmark demands of the runbook, and whether a measurement keeps it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.contest import Measured
from bench.results import Setup
from bench.way import Mode, Way

FROM_ROWS = 1_000_000
"""Below this, fixed costs such as Python's start decide, and ratios mean nothing."""

LEAST_TIME_RATIO: dict[tuple[str, Mode], float] = {
    ("real", "atomic"): 8.0,
    ("real", "online"): 8.0,
    ("even", "atomic"): 4.0,
    ("even", "online"): 2.0,
}
"""How much faster than the plan's SQL, by distribution and mode; the proof is part of it, and a
machine's noise. An application that writes takes its share of the processors."""
MOST_OF_FLOOR = 1.25
"""How much longer than what is written by hand; atomic."""
MOST_WAL = 0.35
"""How much of the plan's WAL, in the real distribution; of an online run, with an application's."""
MOST_HEAP_GROWTH = 0.10
"""How much of the plan's, in the real distribution."""
MOST_PROOF_SHARE = 0.40
"""Atomic only: how much of the database work both fingerprints may be."""
LEAST_LOCK_RATIO = 500.0
"""Online only; atomic, the lock is held as long as the work lasts."""
MOST_TRANSACTION_MS = 250.0
"""How long the application's longest transaction may take while its table is migrated."""

MOST_SCALED = 11.0
"""How much longer ten times as many rows may take."""
MOST_MEMORY_BYTES = 300e6
MOST_MEMORY_GROWTH = 0.10
STEP_MS = 500.0
"""A step that takes less on many rows says more about the clock than about the rows."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One demand; its text holds both figures."""

    text: str
    is_kept: bool


def of(
    setup: Setup, plan: Measured, floor: Measured, runbook: Measured, way: Way
) -> Iterator[Bound]:
    """Yield what is demanded of a run: ratios from a number of rows on, what an application may
    notice always."""
    yield from _of_application(runbook)
    if setup.rows < FROM_ROWS:
        return
    if not runbook.application:
        least = LEAST_TIME_RATIO[setup.distribution, way.mode]
        yield _at_least(runbook, "plan's time", plan.database_s / runbook.database_s, least)
    if way.mode == "online":
        yield _at_least(runbook, "plan's lock", plan.locked_s / runbook.locked_s, LEAST_LOCK_RATIO)
    else:
        ratio = runbook.database_s / floor.database_s
        yield _at_most(runbook, "of the floor's time", ratio, MOST_OF_FLOOR)
        yield _at_most(runbook, "proof's part", runbook.proof_share, MOST_PROOF_SHARE)
    if setup.distribution == "real":
        yield _at_most(runbook, "of plan's WAL", runbook.wal_bytes / plan.wal_bytes, MOST_WAL)
        if not runbook.application:  # what it inserts makes the table grow, too
            growth = runbook.heap_growth / plan.heap_growth
            yield _at_most(runbook, "of plan's heap growth", growth, MOST_HEAP_GROWTH)


def _of_application(runbook: Measured) -> Iterator[Bound]:
    """Yield what the application may notice, whatever the number of rows."""
    told = runbook.application
    if told:
        yield _at_most(runbook, "failed transactions", told["failed"], 0)
        yield _at_most(runbook, "lost writes", told["lost"], 0)
        longest = told["longest_ms"]
        yield _at_most(runbook, "longest transaction (ms)", longest, MOST_TRANSACTION_MS)


def of_scale(small: Measured, large: Measured) -> Iterator[Bound]:
    """Yield what ten times as many rows may cost: no step more than they are more, and next to no
    memory in the client."""
    before = small.steps()
    for step, ms in large.steps().items():
        if ms >= STEP_MS and before.get(step):
            yield _at_most(large, step, ms / before[step], MOST_SCALED)
    yield _at_most(large, "all of it", large.database_s / small.database_s, MOST_SCALED)
    assert small.peak_bytes is not None and large.peak_bytes is not None
    memory = large.peak_bytes / 1e6
    yield _at_most(large, "client's memory (MB)", memory, MOST_MEMORY_BYTES / 1e6)
    growth = large.peak_bytes / small.peak_bytes - 1
    yield _at_most(large, "client's memory's growth", growth, MOST_MEMORY_GROWTH)


def told(bounds: Iterable[Bound]) -> list[str]:
    """Print how the bounds were kept; return those that were not."""
    missed = []
    for bound in bounds:
        print(f"bound: {bound.text}: {'kept' if bound.is_kept else 'MISSED'}")
        if not bound.is_kept:
            missed.append(bound.text)
    return missed


def _at_least(runbook: Measured, name: str, found: float, least: float) -> Bound:
    text = f"{runbook.name}: {name} {found:,.2f} ≥ {least:,g}"
    return Bound(text=text, is_kept=found >= least)


def _at_most(runbook: Measured, name: str, found: float, most: float) -> Bound:
    shown = f"{found:,.2f}" if isinstance(found, float) else f"{found:,}"
    return Bound(text=f"{runbook.name}: {name} {shown} ≤ {most:,g}", is_kept=found <= most)
