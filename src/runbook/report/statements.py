"""Statements as tables, planned and as they ran; settings that follow each other are one row."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from runbook.numbers import duration, span
from runbook.plan.estimate import Range
from runbook.report import html
from runbook.run import Executed
from runbook.vocabulary import Lock, Role, Statement

SHOWN_LINES = 8
"""A planned statement of more lines is shown by its first, and unfolds."""

S = TypeVar("S", Statement, Executed)


def planned(statements: Sequence[Statement], ranges: Sequence[Range | None]) -> html.Fragment:
    """Return the statements of a plan, each with its SQL, its undo and how long it may take."""
    rows, first = [], 1
    for group in _groups(statements):
        last = first + len(group) - 1
        number = str(first) if first == last else f"{first}–{last}"
        code = html.Sql(";\n".join(one.sql + _undo(one) for one in group))
        rows.append(
            (
                number,
                group[0].phase.value,
                _title(group),
                _folded(code, group),
                _lock(group[0].lock),
                _time(ranges[first - 1]),
            )
        )
        first = last + 1
    return html.table(["#", "phase", "what it does", "statement", "lock", "estimated time"], rows)


def _folded(code: html.Sql, group: Sequence[Statement]) -> html.Sql | html.Folded:
    """Return statements as they are read: several, or a long one, behind a line."""
    if len(group) > 1:
        return html.Folded(f"{len(group)} statements", code)
    lines = code.split("\n")
    return html.Folded(f"{lines[0]} …", code) if len(lines) > SHOWN_LINES else code


def _lock(lock: Lock) -> object:
    """Return a lock with what it blocks; a statement without one has just a dash."""
    return (lock.value, lock.blocks) if lock.blocks else None


def _time(range_: Range | None) -> object:
    """Return how long a statement may take; a dash where that does not grow with the rows."""
    return (duration(range_.likely_ms), html.Aside(between(range_))) if range_ else None


def between(range_: Range) -> str:
    """Return a range as a person reads it."""
    return span(range_.least_ms, range_.most_ms)


def executed(statements: Sequence[Executed]) -> html.Fragment:
    """Return statements that ran, each unfolding to its SQL."""
    return html.table(
        ["phase", "statement", "lock", "waited (ms)", "held (ms)", "took (ms)", "rows"],
        [
            (
                group[0].phase,
                html.Folded(_title(group), html.Sql(";\n".join(one.sql for one in group))),
                *(group[0].lock, group[0].waited_ms or None, group[0].held_ms or None),
                sum(one.duration_ms for one in group),
                group[0].rows,
            )
            for group in _groups(statements)
        ],
    )


def _groups(statements: Sequence[S]) -> Iterator[list[S]]:
    """Yield the settings that follow each other in a phase together, all else alone."""

    def kind(numbered: tuple[int, S]) -> tuple[str, int | None]:
        place, one = numbered
        return one.phase, None if one.role == Role.SETTING else place

    for _, group in groupby(enumerate(statements), key=kind):
        yield [one for _, one in group]


def _title(group: Sequence[Statement] | Sequence[Executed]) -> str:
    return group[0].title if len(group) == 1 else "Settings of this transaction"


def _undo(statement: Statement) -> str:
    """Return what takes a statement back, as a comment below it."""
    return f"\n-- undo: {statement.undo}" if statement.undo else ""
