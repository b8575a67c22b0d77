"""From the copy to the whole table: how long the migration is likely to take there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runbook.rehearsal.legs import Leg


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a way is likely to take on the whole table; milliseconds, from the least to the most."""

    name: str
    """`up` or `down`."""
    ms: tuple[float, float]
    locked_ms: tuple[float, float]


def estimate(name: str, legs: Sequence[Leg], rows: int, total: int) -> Estimate:
    """Return what the ways that were measured come to on the whole table.

    What grows with the rows is taken times the rows; at the most, as sorting them grows (n log n).
    The rest stays as it is. The range is that of the measured ways, and of these two.
    """
    factor = total / rows if rows else 1.0
    most = factor * max(1.0, math.log(max(total, 2)) / math.log(max(rows, 2)))

    def scaled(measured: Sequence[tuple[float, float]]) -> tuple[float, float]:
        least = [ms - growing + growing * factor for ms, growing in measured]
        greatest = [ms - growing + growing * most for ms, growing in measured]
        return round(min(least), 1), round(max(greatest), 1)

    return Estimate(
        name=name,
        ms=scaled([(leg.ms, leg.grows_ms) for leg in legs]),
        locked_ms=scaled([(leg.locked_ms, leg.locked_grows_ms) for leg in legs]),
    )
