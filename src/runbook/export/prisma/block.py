"""A Prisma schema as lines: enough of its grammar to change some of them and leave all others.

The language is made of blocks, each line of which is one declaration (Prisma docs, Prisma schema):
so what is looked for is found line by line, and comments, blank lines and columns stay as they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENING = re.compile(r"^\s*(model|enum|view|type)\s+(\w+)\s*\{")
_FIELD = re.compile(
    r"^(?P<indent>\s*)(?P<name>\w+)(?P<gap>\s+)(?P<type>\w+(?:\(\"[^\"]*\"\))?(?:\[\]|\?)?)"
    r"(?P<rest>.*)$"
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A model or an enum: the numbers of the lines that open and close it."""

    kind: str
    name: str
    first: int
    last: int
    inner: tuple[int, ...]
    """The lines between, those of a comment over several lines left out."""


@dataclass(frozen=True, kw_only=True)
class FieldLine:
    """A line that declares a field."""

    indent: str
    name: str
    gap: str
    type: str
    """With `[]` or `?`."""
    rest: str

    @property
    def model(self) -> str:
        """The type without `[]` or `?`."""
        return self.type.rstrip("[]?")

    def renamed(self, name: str, type_: str) -> str:
        """Return the line with another name and type; what follows them keeps its column where
        there is room."""
        gap = " " * max(1, len(self.name) + len(self.gap) - len(name))
        spaces = len(self.rest) - len(self.rest.lstrip(" "))
        rest = self.rest.lstrip(" ")
        width = len(self.type) + spaces - len(type_)
        return f"{self.indent}{name}{gap}{type_}" + (" " * max(1, width) + rest if rest else "")


def field(line: str) -> FieldLine | None:
    """Return a line as a field, or None where it is none."""
    found = _FIELD.match(line)
    if not found or code(line).lstrip().startswith("@@") or not code(line).strip():
        return None
    return FieldLine(**found.groupdict())


_QUIET = re.compile(r'"(?:[^"\\]|\\.)*"|//.*|/\*.*?(?:\*/|$)')
"""A string, or a comment: to the line's end, or between two marks."""


def code(line: str) -> str:
    """Return a line with its comments and what stands in quotes blanked out, at the same length."""

    def blank(found: re.Match[str]) -> str:
        text = found[0]
        inner = " " * (len(text) - 2)
        return f'"{inner}"' if text.startswith('"') else " " * len(text)

    return _QUIET.sub(blank, line)


def _opens_comment(line: str) -> bool:
    """Return whether a comment begins in a line that goes on in the next one."""
    found = [one[0] for one in _QUIET.finditer(line)]
    return bool(found) and found[-1].startswith("/*") and not found[-1].endswith("*/")


def blocks(lines: list[str]) -> Iterator[Block]:
    """Yield the blocks in their order."""
    opened: tuple[str, str, int] | None = None
    inner: list[int] = []
    in_comment = False
    for at, line in enumerate(lines):
        if in_comment:
            in_comment = "*/" not in line
            continue
        in_comment = _opens_comment(line)
        bare = code(line)
        found = _OPENING.match(bare)
        if opened is None and found:
            opened, inner = (found[1], found[2], at), []
        elif opened is not None and bare.strip() == "}":
            kind, name, first = opened
            yield Block(kind=kind, name=name, first=first, last=at, inner=tuple(inner))
            opened = None
        else:
            inner.append(at)


def attribute(line: str, name: str) -> str | None:
    """Return the first string that an attribute of a line is given (`@map("x")`), or None."""
    at = re.search(rf"(?<![@\w]){re.escape(name)}\(", code(line))
    if at is None:
        return None
    found = re.match(r"\s*(?:name:\s*)?\"((?:[^\"\\]|\\.)*)\"", line[at.end() :])
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None
