"""How long statements are likely to take: nominal figures, and a range from a measured sample.

The nominal figures were measured on the benchmark's table (26 columns, 12 indexes) on 2 cores; they
alone decide between the modes. What a person is shown is scaled by how fast this server read and
hashed a sample of this table, which holds its rows' width, its disk and its load.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runbook.facts import Sample
from runbook.vocabulary import Phase, Statement

FIXED_MS = 50.0
"""Milliseconds for all that does not depend on the rows."""

SAMPLE_US = 2.5
"""Microseconds for a row of a sample, where the nominal figures were measured: one process reads
it, and two the whole table."""

MODEL = 2.0
"""How far the nominal figures may be off, either way, on another table and server: writes depend on
its indexes, triggers, checkpoints and disk, of which a sample that only reads says nothing."""

_LATER = (Phase.CONTRACT, Phase.ROLLBACK)
"""Run by commands of their own, long after."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """From the least to the most, in milliseconds."""

    least_ms: float
    likely_ms: float
    most_ms: float

    def holds(self, ms: float) -> bool:
        """Return whether a duration lies within it."""
        return self.least_ms <= ms <= self.most_ms


def nominal_ms(statements: Iterable[Statement], rows: int) -> float:
    """Return what statements take by the nominal figures; those run later are left out."""
    return FIXED_MS + sum(
        own_us * rows / 1000 for own_us in _row_us([s for s in statements if s.phase not in _LATER])
    )


def expected(nominal: float, sample: Sample | None, *, fixed_ms: float = 0.0) -> Range:
    """Return the range around a nominal duration, of which a part does not grow with the rows.

    Without a sample there is only the model's range.
    """
    growing = nominal - fixed_ms
    speeds = (
        (1.0, 1.0, 1.0)
        if sample is None
        else tuple(us / SAMPLE_US for us in (sample.least_us, sample.median_us, sample.most_us))
    )
    least, likely, most = (growing * speed for speed in speeds)
    return Range(
        least_ms=(fixed_ms + least) / MODEL,
        likely_ms=fixed_ms + likely,
        most_ms=(fixed_ms + most) * MODEL,
    )


def by_statement(
    statements: list[Statement], rows: int, sample: Sample | None
) -> list[Range | None]:
    """Return the range of each statement; None where its time does not grow with the rows."""
    return [expected(us * rows / 1000, sample) if us else None for us in _row_us(statements)]


def done_before(statements: Sequence[Statement], rows: int) -> dict[str, float]:
    """Return how much of the work is done when a statement begins, from 0 to 1, by its title; of
    several with the same title, when the first does."""
    each_ms = [us * rows / 1000 + FIXED_MS / len(statements) for us in _row_us([*statements])]
    whole, done = sum(each_ms), 0.0
    shares: dict[str, float] = {}
    for one, ms in zip(statements, each_ms, strict=True):
        shares.setdefault(one.title, done / whole)
        done += ms
    return shares


def phase_spans(statements: Sequence[Statement], rows: int) -> dict[Phase, tuple[float, float]]:
    """Return where in the whole work each phase begins and ends, from 0 to 1; what runs later is
    left out."""
    there = [one for one in statements if one.phase not in _LATER]
    work: dict[Phase, float] = {}
    for one, us in zip(there, _row_us(there), strict=True):
        work[one.phase] = work.get(one.phase, FIXED_MS) + us * rows / 1000
    whole, done = sum(work.values()), 0.0
    spans: dict[Phase, tuple[float, float]] = {}
    for phase, ms in work.items():
        spans[phase] = (done / whole, (done + ms) / whole)
        done += ms
    return spans


def _row_us(statements: list[Statement]) -> list[float]:
    """Return each statement's figure for a row of all; one that is for a partition alone is taken
    to have its even share of the rows."""
    alike: dict[tuple[str, str], int] = {}
    for one in statements:
        if one.table:
            alike[one.phase, one.role] = alike.get((one.phase, one.role), 0) + 1
    return [
        one.row_us / alike[one.phase, one.role] if one.table else one.row_us for one in statements
    ]
