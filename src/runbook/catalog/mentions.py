"""Where a function's text names a table: in its code, in a string, or nowhere but in comments."""

import re
from dataclasses import dataclass

_PARTS = re.compile(r"(?P<string>'(?:[^']|'')*')|(?P<comment>--[^\n]*|/\*.*?\*/)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """The lines of a text that name a table."""

    lines: tuple[str, ...]
    """Each with its number."""
    in_code: bool
    """Whether it stands there as a name, and not in strings alone, which may be anything."""


def mentions(source: str, name: str) -> Mentions | None:
    """Return where a text names a table as a word of its own, comments left out; None if nowhere.

    Upper and lower case are not told apart: who does not quote a name may write it either way.
    """
    named = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    spoken = _PARTS.sub(lambda part: _blank(part) if part["comment"] else part[0], source)
    lines = tuple(
        f"line {n}: {' '.join(line.split())}"
        for n, line in enumerate(spoken.splitlines(), start=1)
        if named.search(line)
    )
    if not lines:
        return None
    code = _PARTS.sub(_blank, source)
    return Mentions(lines=lines, in_code=bool(named.search(code)))


def _blank(part: re.Match[str]) -> str:
    """Return nothing, in as many lines."""
    return " " + "\n" * part[0].count("\n")
