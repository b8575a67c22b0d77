"""The cryptographic proof: SHA-256 over ranges of the table's key, before and after the change.

A row's digest is the SHA-256 of its text, as PostgreSQL writes a record: every column in its
output form, quoted so that no two rows share a text. A range's digest is the SHA-256 of its rows'
digests in the order of the key, and the proof the SHA-256 of the ranges' digests in their order:
anybody can compute it again from the rows alone.

The ranges are fixed before the change by the keys that they begin with, so that a row that is lost
or new shows in its own range and no other. A table without a primary or unique key that is never
NULL is ordered by its rows' digests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

from runbook import sql
from runbook.facts import Column, Table
from runbook.operations.base import Scope
from runbook.operations.fingerprint import row_digest
from runbook.operations.value import as_exact_text
from runbook.vocabulary import Lock, Phase, Role, Statement

RANGE_ROWS = 10_000
"""Rows of a range when it is made."""

BOUNDS_US, DIGEST_US = 0.5, 4.0
"""Microseconds for each row to find where ranges begin, and to take its digest in order."""

SAVEPOINT = "runbook_before"
"""What the run goes back to when the proof fails, to read the rows as they were."""

ALGORITHM = (
    f"SHA-256 over the SHA-256 of each range of {RANGE_ROWS:,} rows in the order of {{key}}, each "
    "over the SHA-256 of its rows as text, of all columns that existed before"
)

_ORDERED = re.compile(
    r"smallint|integer|bigint|numeric(\(\d+,-?\d+\))?|uuid|date"
    r"|timestamp(\(\d\))? with(out)? time zone"
)
"""Types whose own order is used for the ranges; others are ordered as text, by bytes."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What orders the rows: the columns of a key, or none."""

    columns: tuple[Column, ...]

    @property
    def said(self) -> str:
        """Name it to a person."""
        return ", ".join(column.name for column in self.columns) or "the rows' digests"


def key_of(table: Table) -> Key:
    """Return the table's primary key, else its first unique constraint over columns that are never
    NULL, else a key without columns."""
    constraints = sorted(table.constraints, key=lambda one: (one.kind != "p", one.name))
    indexes = {index.name: index for index in table.indexes if index.of_constraint}
    for constraint in constraints:
        if constraint.kind in "pu" and constraint.name in indexes:
            found = [table.column(name) for name in indexes[constraint.name].columns]
            columns = tuple(column for column in found if column and column.not_null)
            if found and len(columns) == len(found):
                return Key(columns=columns)
    return Key(columns=())


def algorithm(table: Table) -> str:
    """Return how the proof of a table is made, in words."""
    return ALGORITHM.format(key=key_of(table).said)


def digests_before(scope: Scope, phase: Phase) -> Iterator[Statement]:
    """Yield what fixes the ranges and takes their digests before the change."""
    keyed = _Keyed(scope.table, scope.relation)
    yield scope.statement(
        keyed.bounds(),
        f"Fix ranges of {RANGE_ROWS:,} rows by the key",
        lock=Lock.ACCESS_SHARE,
        phase=phase,
        role=Role.BOUNDS,
        row_us=BOUNDS_US,
    )
    yield scope.statement(
        keyed.digests(),
        "Take the SHA-256 of every range before the change",
        lock=Lock.ACCESS_SHARE,
        phase=phase,
        role=Role.DIGEST_BEFORE,
        row_us=DIGEST_US,
    )


def digests_after(scope: Scope, phase: Phase) -> Iterator[Statement]:
    """Yield what takes the ranges' digests after the change."""
    yield scope.statement(
        _Keyed(scope.table, scope.relation).digests(),
        "Take the SHA-256 of every range after the change",
        lock=Lock.ACCESS_SHARE,
        phase=phase,
        role=Role.DIGEST_AFTER,
        row_us=DIGEST_US,
    )


def savepoint(scope: Scope) -> Statement:
    """Return what the rows can be read again from as they were."""
    return scope.statement(
        sql.render("SAVEPOINT {name}", name=SAVEPOINT),
        "Remember the rows as they are, for a proof that fails",
        lock=Lock.NONE,
        role=Role.SAVEPOINT,
    )


def rows_of_ranges(scope: Scope, name: str) -> Iterator[Statement]:
    """Yield what reads a range's rows after and before the change, run where its digest differs."""
    for relation, role, when in (
        (name, Role.ROWS_AFTER, "after"),
        (scope.table.name, Role.ROWS_BEFORE, "before"),
    ):
        yield scope.statement(
            _Keyed(scope.table, sql.name(scope.schema, relation)).rows(),
            f"Only if a range differs: its rows {when} the change",
            lock=Lock.ACCESS_SHARE,
            role=role,
        )


@dataclass(frozen=True)
class _Keyed:
    """The queries over a table in the order of its key."""

    table: Table
    relation: sql.Composable

    @property
    def _key(self) -> tuple[Column, ...]:
        return key_of(self.table).columns

    @property
    def _names(self) -> list[str]:
        return [f"key_{n}" for n in range(1, max(1, len(self._key)) + 1)]

    @property
    def _columns(self) -> sql.Composable:
        """The key's columns as they are ordered."""
        if not self._key:
            return sql.compose("{digest} AS key_1", digest=row_digest(self.table))
        return sql.join(
            ", ",
            (
                sql.compose("{key} AS {name}", key=_ordered(column), name=name)
                for column, name in zip(self._key, self._names, strict=True)
            ),
        )

    def _bound(self, parameter: LiteralString) -> sql.Composable:
        """Return a bound's texts as values to compare the key with."""
        if not self._key:
            return sql.compose(f"decode({parameter} ->> 0, 'hex')")
        return sql.join(
            ", ",
            (
                sql.compose(
                    f"({parameter} ->> {{n}}){{cast}}", n=sql.raw(str(n)), cast=_cast(column)
                )
                for n, column in enumerate(self._key)
            ),
        )

    @property
    def _told(self) -> sql.Composable:
        """The key as texts."""
        if not self._key:
            return sql.compose("encode(key_1, 'hex')")
        return sql.join(", ", (sql.compose("{name}::text", name=name) for name in self._names))

    def bounds(self) -> str:
        """Return the query for the first key of each range: one array of arrays of texts."""
        return sql.render(
            _BOUNDS,
            told=self._told,
            names=sql.names(self._names),
            columns=self._columns,
            table=self.relation,
            rows=sql.raw(str(RANGE_ROWS)),
        )

    def digests(self) -> str:
        """Return the query for each range's number, rows and digest; `$1` are the bounds."""
        return sql.render(
            _DIGESTS,
            names=sql.names(self._names),
            columns=self._columns,
            bound=self._bound("bound"),
            digest=row_digest(self.table),
            table=self.relation,
        )

    def rows(self) -> str:
        """Return the query for the rows between two bounds (`$1` and `$2`, NULL for none): key,
        digest, and a hash of each column."""
        return sql.render(
            _ROWS,
            told=self._told,
            names=sql.names(self._names),
            columns=self._columns,
            digest=row_digest(self.table),
            hashes=sql.join(
                ", ",
                (
                    sql.compose(
                        'hashtextextended({text} COLLATE "C", 0)',
                        text=as_exact_text(column, sql.name(column.name)),
                    )
                    for column in self.table.columns
                ),
            ),
            table=self.relation,
            first=self._bound("$1::jsonb"),
            last=self._bound("$2::jsonb"),
        )


def _ordered(column: Column) -> sql.Composable:
    """Return a key's column in a form that orders alike in every query."""
    reference = sql.name(column.name)
    if _ORDERED.fullmatch(column.type):
        return reference
    return sql.compose('({text} COLLATE "C")', text=as_exact_text(column, reference))


def _cast(column: Column) -> sql.Composable:
    """Return the cast of a bound's text to what `_ordered` gives."""
    if _ORDERED.fullmatch(column.type):
        return sql.compose("::{type}", type=sql.raw(column.type))
    return sql.compose('::text COLLATE "C"')


_BOUNDS: LiteralString = """\
SELECT coalesce(jsonb_agg(jsonb_build_array({told}) ORDER BY place), '[]') AS bounds
FROM (
    SELECT {names}, row_number() OVER (ORDER BY {names}) - 1 AS place
    FROM (SELECT {columns} FROM {table}) AS keyed
) AS placed WHERE place % {rows} = 0"""

_DIGESTS: LiteralString = """\
SELECT range, count(*) AS rows,
    sha256(string_agg(digest, ''::bytea ORDER BY {names})) AS digest
FROM (
    SELECT {names}, digest, count(*) FILTER (WHERE digest IS NULL)
        OVER (ORDER BY {names}, digest NULLS FIRST ROWS UNBOUNDED PRECEDING) AS range
    FROM (
        SELECT {columns}, {digest} AS digest FROM {table}
        UNION ALL
        SELECT {bound}, NULL::bytea FROM jsonb_array_elements($1::jsonb) AS bound
    ) AS keyed
) AS ranged
WHERE digest IS NOT NULL GROUP BY range ORDER BY range"""

_ROWS: LiteralString = """\
SELECT jsonb_build_array({told}) AS key, digest, hashes
FROM (SELECT {columns}, {digest} AS digest, ARRAY[{hashes}] AS hashes FROM {table}) AS keyed
WHERE ($1::jsonb IS NULL OR ({names}) >= ({first}))
    AND ($2::jsonb IS NULL OR ({names}) < ({last}))"""
