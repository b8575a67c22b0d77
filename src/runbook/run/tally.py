"""Tallies as they came back, and the proof: the comparison of the two."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runbook.plan.tally import ALGORITHM


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What one tally counted."""

    rows: int
    categories: Mapping[str, int]
    """Rows per label; those without one are left out."""
    fingerprint: str
    """The sum of all rows' hashes, in decimal."""
    wrong: int
    """Rows whose label differs from the rules evaluated afresh; 0 before the change."""

    @classmethod
    def of(cls, rows: Iterable[tuple[Any, ...]]) -> "Tally":
        """Return the tally that the query's rows (label, rows, wrong, hashes) make."""
        lines = list(rows)
        return cls(
            rows=sum(line[1] for line in lines),
            categories={line[0]: line[1] for line in lines if line[0] is not None},
            fingerprint=str(sum(int(line[3]) for line in lines)),
            wrong=sum(line[2] for line in lines),
        )


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The comparison of the data of all columns that existed before."""

    algorithm: str
    rows_before: int
    rows_after: int
    fingerprint_before: str
    fingerprint_after: str
    passed: bool
    covers: Literal["table", "updated rows"] = "table"
    """Which rows were compared."""
    says: str
    """What it shows, in plain words."""
    hashes: str | None = None
    """The sum of the hashes of all rows of the table: what a rollback compares with."""
    batches: Mapping[str, object] | None = None
    """Online: the rows that were updated, each compared in its batch, and the sums of their
    hashes."""
    different: tuple[str, ...] = ()
    """What is not as it was, where that can be told: ranges of the key, then rows."""

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "different": list(self.different)}


WHOLE = (
    "Every row of the table is as it was, in every column that existed before: no other row is "
    "there, none is missing, and no value is another one."
)
FAILED = "The data of the columns that existed before are not what they were."


def prove(before: Tally, after: Tally) -> Proof:
    """Compare two tallies: same rows, same values, and every label as the rules gave before."""
    passed = (before.rows, before.fingerprint, before.categories) == (
        after.rows,
        after.fingerprint,
        after.categories,
    ) and after.wrong == 0
    return Proof(
        algorithm=ALGORITHM,
        rows_before=before.rows,
        rows_after=after.rows,
        fingerprint_before=before.fingerprint,
        fingerprint_after=after.fingerprint,
        passed=passed,
        says=WHOLE if passed else FAILED,
        hashes=after.fingerprint,
    )
