"""What the benchmark demands of the runbook, and whether a measurement keeps it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.contest import Measured
from bench.way import Way

FROM_ROWS = 1_000_000
"""Below this, fixed costs such as Python's start decide, and ratios mean nothing."""

LEAST_TIME_RATIO = 8.0
MOST_HEAP_GROWTH = 0.10
MOST_PROOF_SHARE = 0.40
"""Atomic only: how much of the database work both fingerprints may be."""
LEAST_LOCK_RATIO = 500.0
"""Online only; atomic, the lock is held as long as the work lasts."""
MOST_TRANSACTION_MS = 250.0
"""How long the application's longest transaction may take while its table is migrated."""

MOST_SCALED_TIME = 11.0
"""How much longer ten times as many rows may take."""
MOST_MEMORY_GROWTH = 0.10


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One demand; its text holds both figures."""

    text: str
    is_kept: bool


def of_contest(plan: Measured, runbook: Measured, way: Way) -> Iterator[Bound]:
    """Yield what is relative to the plan's SQL, or to the table before. What an application
    inserts makes the table grow, too."""
    yield _at_least("time ratio", plan.database_s / runbook.database_s, LEAST_TIME_RATIO)
    if way.mode == "online":
        yield _at_least("lock ratio", plan.locked_s / runbook.locked_s, LEAST_LOCK_RATIO)
    if runbook.proof_s:
        yield _at_most("proof's part (%)", 100 * runbook.proof_share, 100 * MOST_PROOF_SHARE)
    if not runbook.application:
        growth = runbook.heap_growth
        yield Bound(
            text=f"heap growth {growth:.1%} ≤ {MOST_HEAP_GROWTH:.0%}",
            is_kept=growth <= MOST_HEAP_GROWTH,
        )


def of_application(runbook: Measured) -> Iterator[Bound]:
    """Yield what the application may notice, whatever the number of rows."""
    told = runbook.application
    if told:
        yield _at_most("failed transactions", told["failed"], 0)
        yield _at_most("lost writes", told["lost"], 0)
        yield _at_most("longest transaction (ms)", told["longest_ms"], MOST_TRANSACTION_MS)


def of_scale(small: Measured, large: Measured) -> Iterator[Bound]:
    """Yield what ten times as many rows may cost."""
    yield _at_most(
        "time at ten times the rows", large.database_s / small.database_s, MOST_SCALED_TIME
    )
    assert small.client_peak_bytes is not None and large.client_peak_bytes is not None
    growth = large.client_peak_bytes / small.client_peak_bytes - 1
    yield Bound(
        text=f"client's memory {growth:+.1%} ≤ {MOST_MEMORY_GROWTH:.0%}",
        is_kept=growth <= MOST_MEMORY_GROWTH,
    )


def told(bounds: Iterable[Bound]) -> list[str]:
    """Print how the bounds were kept; return those that were not."""
    missed = []
    for bound in bounds:
        print(f"bound: {bound.text}: {'kept' if bound.is_kept else 'MISSED'}")
        if not bound.is_kept:
            missed.append(bound.text)
    return missed


def _at_least(name: str, found: float, least: float) -> Bound:
    return Bound(text=f"{name} {found:,.1f} ≥ {least:,.0f}", is_kept=found >= least)


def _at_most(name: str, found: float, most: float) -> Bound:
    shown = f"{found:,.2f}" if isinstance(found, float) else f"{found:,}"
    return Bound(text=f"{name} {shown} ≤ {most:,.0f}", is_kept=found <= most)
