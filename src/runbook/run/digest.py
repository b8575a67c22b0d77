"""The digests of ranges as they came back, and what differs: ranges, then their rows."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook.facts import Table
from runbook.plan.digest import SAVEPOINT, algorithm, key_of
from runbook.run.course import Course
from runbook.run.single import execute_single
from runbook.run.tally import FAILED, Proof
from runbook.vocabulary import Role, Statement

RANGES_SHOWN = 5
"""How many of the ranges that differ are looked into."""

ROWS_SHOWN = 20
"""How many rows that differ are named."""

TAKING = frozenset((Role.BOUNDS, Role.DIGEST_BEFORE, Role.DIGEST_AFTER))
"""The statements that take digests."""

ON_FAILURE = frozenset((Role.ROWS_BEFORE, Role.ROWS_AFTER))
"""The statements that are run only where a range differs."""

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A range whose rows are not as they were."""

    first: Key | None
    """The key that it begins with; None where nothing lies before it."""
    end: Key | None
    """The key that the next one begins with."""
    rows_before: int
    rows_after: int

    def __str__(self) -> str:
        bounds = [", ".join(key) if key else "…" for key in (self.first, self.end)]
        return (
            f"from {bounds[0]} to before {bounds[1]} "
            f"({self.rows_before:,} rows before, {self.rows_after:,} after)"
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row that is not as it was: `lost`, `new`, or `altered` in these columns."""

    key: Key
    what: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{', '.join(self.key)} {self.what}{columns}"


@dataclass
class Digests:
    """Runs the statements of the cryptographic proof, and compares what they return."""

    table: Table
    bounds: list[list[str]] = field(default_factory=list)
    found: dict[Role, Mapping[int, tuple[int, bytes]]] = field(default_factory=dict)
    """Of each moment, the rows and the digest of every range."""

    def execute(
        self, connection: psycopg.Connection[Any], course: Course, statement: Statement
    ) -> None:
        """Run what fixes the ranges, or takes their digests."""
        if statement.role is Role.BOUNDS:
            (self.bounds,) = course.execute(connection, statement).fetchall()[0]
        elif statement.role in {Role.DIGEST_BEFORE, Role.DIGEST_AFTER}:
            lines = course.execute(connection, statement, [_json(self.bounds)])
            self.found[statement.role] = {n: (rows, digest) for n, rows, digest in lines}

    def content(self) -> dict[str, Any]:
        """Return the bounds, and the digests that were taken, as plain data."""
        ranges = next(iter(self.found.values()), {})
        return {
            "bounds": self.bounds,
            "ranges": [[n, rows, digest.hex()] for n, (rows, digest) in ranges.items()],
        }

    @classmethod
    def of(cls, table: Table, before: Mapping[str, Any], after: Mapping[str, Any]) -> "Digests":
        """Return the digests of two moments that were plain data."""
        found: dict[Role, Mapping[int, tuple[int, bytes]]] = {
            role: {n: (rows, bytes.fromhex(digest)) for n, rows, digest in one["ranges"]}
            for role, one in ((Role.DIGEST_BEFORE, before), (Role.DIGEST_AFTER, after))
        }
        return cls(table, before["bounds"], found if any(found.values()) else {})

    def total(self, role: Role) -> str:
        """Return the digest over all ranges of a moment, in hexadecimal."""
        ranges = self.found[role]
        return hashlib.sha256(b"".join(ranges[n][1] for n in sorted(ranges))).hexdigest()

    def different(self) -> Iterator[int]:
        """Yield the numbers of the ranges that differ."""
        before, after = self.found[Role.DIGEST_BEFORE], self.found[Role.DIGEST_AFTER]
        yield from (n for n in sorted({*before, *after}) if before.get(n) != after.get(n))

    def _range(self, n: int) -> Range:
        """Return a range with its bounds and counts."""
        first, end = self._ends(n)
        before, after = (
            self.found[role].get(n, (0, b""))[0] for role in (Role.DIGEST_BEFORE, Role.DIGEST_AFTER)
        )
        return Range(first=first, end=end, rows_before=before, rows_after=after)

    def _ends(self, n: int) -> tuple[Key | None, Key | None]:
        """Return where a range begins and ends; the one before the first bound has the number 0."""
        keys = [None, *(tuple(bound) for bound in self.bounds), None]
        return keys[n], keys[n + 1]

    def prove(
        self,
        proof: Proof,
        rows: Callable[[], Sequence[Row]] = tuple,
    ) -> Proof:
        """Return the proof by these digests, failed if the given one is; where ranges differ, these
        are named, and the `rows` of them that do."""
        numbers = list(self.different())
        passed = proof.passed and not numbers
        return replace(
            proof,
            algorithm=algorithm(self.table),
            fingerprint_before=self.total(Role.DIGEST_BEFORE),
            fingerprint_after=self.total(Role.DIGEST_AFTER),
            passed=passed,
            says=proof.says if passed else FAILED,
            different=tuple(self._said(numbers, rows)) if numbers else (),
        )

    def _said(self, numbers: Sequence[int], rows: Callable[[], Sequence[Row]]) -> Iterator[str]:
        """Yield the ranges that differ, then the rows, in words."""
        key = key_of(self.table).said
        for n in numbers[:RANGES_SHOWN]:
            yield f"Rows by {key} {self._range(n)} differ"
        if len(numbers) > RANGES_SHOWN:
            yield f"{len(numbers) - RANGES_SHOWN:,} more ranges differ"
        found = rows()
        for row in found[:ROWS_SHOWN]:
            yield f"Row {row}"
        if len(found) > ROWS_SHOWN:
            yield f"{len(found) - ROWS_SHOWN:,} more rows of these ranges differ"

    def rows(
        self, connection: psycopg.Connection[Any], statements: Sequence[Statement]
    ) -> tuple[Row, ...]:
        """Return the rows that differ in the first few ranges that do. The transaction goes back to
        its savepoint for it: all that it changed is taken back."""
        by_role = {one.role: one for one in statements}
        numbers = list(self.different())[:RANGES_SHOWN]
        after = [self._read(connection, by_role[Role.ROWS_AFTER], n) for n in numbers]
        connection.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}".encode())
        before = [self._read(connection, by_role[Role.ROWS_BEFORE], n) for n in numbers]
        return tuple(
            row
            for one, other in zip(before, after, strict=True)
            for row in _compared(one, other, [column.name for column in self.table.columns])
        )

    def _read(
        self, connection: psycopg.Connection[Any], statement: Statement, n: int
    ) -> list[tuple[Key, bytes, list[int | None]]]:
        values = [_json(end) if end else None for end in self._ends(n)]
        lines = execute_single(connection, statement.sql, values).fetchall()
        return [(tuple(key), digest, hashes) for key, digest, hashes in lines]


def _compared(
    before: Sequence[tuple[Key, bytes, list[int | None]]],
    after: Sequence[tuple[Key, bytes, list[int | None]]],
    columns: Sequence[str],
) -> Iterator[Row]:
    """Yield the rows that differ, in the order of their keys' texts."""
    counts = [Counter((key, digest) for key, digest, _ in lines) for lines in (before, after)]
    gone, come = counts[0] - counts[1], counts[1] - counts[0]
    hashes = [{key: of_columns for key, _, of_columns in lines} for lines in (before, after)]
    for key in sorted({key for key, _ in (*gone, *come)}):
        lost, new = (any(key == one for one, _ in counted) for counted in (gone, come))
        if lost and new:
            pairs = zip(columns, hashes[0][key], hashes[1][key], strict=True)
            altered = tuple(name for name, one, other in pairs if one != other)
            yield Row(key=key, what="altered", columns=altered)
        else:
            yield Row(key=key, what="lost" if lost else "new")


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False)
