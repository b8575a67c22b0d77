"""Taking secrets out of text and of trees of text."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from runbook.secrets.find import Known, find
from runbook.secrets.spellings import spellings

MASK = "***"
"""What stands where a secret stood."""

SHORTEST_ALONE = 5
"""A shorter secret is too likely to be part of a harmless word."""

SHORTEST_PIECE = 3
"""What is left of a secret at a cut is taken out from this length on."""

T = TypeVar("T")

_COLOUR = re.compile("\x1b\\[[0-9;]*[mK]")
_NAME = r"(?:pg|ssl)?passw(?:or)?d"
# Every pattern begins, and every run of one character ends, at one place only: what is looked at
# twice for each character takes quadratic time (120,000 characters x took 106 s).
_QUOTE = r"""(?:(?<!\\)\\*["']|&quot;|&\#0?3[49];|&\#x2[27];)"""
# A URL's password runs to the last @ before the path; a closing quote ends the text it is in.
_IN_URL = re.compile(r"((?<=[A-Za-z0-9+.-])://[^\s/@:'\"<>]*:)[^\s/'\"<>]+(?=@)")
# IPython's verbose tracebacks cut long values in the middle.
_CUT_URL = re.compile(r"(postgres(?:ql)?(?:\+\w+)?://[^\s/@:'\"<>]*:)[^\s/@'\"<>]+(?=\.\.\.)")
_CUT = re.compile(r"(\s?(?:\.\.\.|…)\s?)")
_ASSIGNED = re.compile(
    rf"(?i)(\b{_NAME}\s*=\s*)"
    r"(?!\s|\*\*\*)((\\+['\"]).*?(?<!\\)\3|'(?:\\.|''|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\s&;,'\"<>)\]}]+)"
)
_KEYED = re.compile(
    rf"(?i)({_QUOTE}{_NAME}{_QUOTE}\s*:\s*)('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|{_QUOTE}.*?{_QUOTE})"
)


class Scrubber:
    """Replaces secrets by `***`.

    A secret that is a word of its surroundings (the database's or user's name, a label, anything
    in `public`) or very short is replaced only where it stands as a password: in a URL, after
    `password=`, under the key `password`. Replacing it everywhere would destroy the report, and
    the gaps would tell the password. Every other secret is replaced wherever and however it is
    spelt. What its surroundings call a password is replaced even if it is not known.
    """

    def __init__(self, known: Known, public: Iterable[str] = ()) -> None:
        words = "\n".join([*known.names, *public]).casefold()
        self._anywhere: list[str] = []
        self._in_place: list[re.Pattern[str]] = []
        for secret in sorted(known.secrets, key=len, reverse=True):
            spelt = spellings(secret)
            if len(secret) < SHORTEST_ALONE or secret.casefold() in words:
                self._in_place.append(_in_place(spelt))
            else:
                self._anywhere += spelt
        self._anywhere.sort(key=len, reverse=True)
        pieces = range(SHORTEST_PIECE, len(self._anywhere[0]) if self._anywhere else 0)
        self._beginnings = _grouped(
            {text[:n] for text in self._anywhere for n in pieces if n < len(text)}, _LAST
        )
        self._ends = _grouped(
            {text[-n:] for text in self._anywhere for n in pieces if n < len(text)}, _FIRST
        )
        self._clean: set[str] = set()

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        if text in self._clean:
            return text
        scrubbed = self._scrub(text)
        if "\x1b" in text:
            # Colours may stand inside a secret: Python's highlighting marks the %d in a string.
            plain = _COLOUR.sub("", text)
            without = self._scrub(plain)
            if without != plain and _COLOUR.sub("", scrubbed) != without:
                scrubbed = without
        if scrubbed == text:
            self._clean.add(text)
        return scrubbed

    def tree(self, tree: T) -> T:
        """Return what JSON can hold, without secrets in keys and texts; new where it is altered."""
        return self._tree(tree)  # type: ignore[no-any-return]

    def into(self, tree: Any) -> None:
        """Take the secrets out of a dict or list where it stands: all who hold it see it."""
        pairs = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
        for key, item in pairs:
            if isinstance(item, dict | list):
                self.into(item)
            elif (scrubbed := self._tree(item)) != item:
                tree[key] = scrubbed
            if isinstance(key, str) and self.text(key) != key:
                tree[self.text(key)] = tree.pop(key)

    def _tree(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self.text(tree)
        if isinstance(tree, dict):
            return {self._tree(key): self._tree(item) for key, item in tree.items()}
        if isinstance(tree, list | tuple):
            return type(tree)(self._tree(item) for item in tree)
        return tree

    def _scrub(self, text: str) -> str:
        for spelling in self._anywhere:
            if spelling in text:
                text = text.replace(spelling, MASK)
        if "..." in text or "…" in text:
            text = self._without_cut(text)
        if "://" in text:
            text = _CUT_URL.sub(rf"\1{MASK}", _IN_URL.sub(rf"\1{MASK}", text))
        if "ssw" in text.lower():
            text = _KEYED.sub(_masked, _ASSIGNED.sub(_masked, text))
        for pattern in self._in_place:
            text = pattern.sub(rf"\1{MASK}", text)
        return text

    def _without_cut(self, text: str) -> str:
        """Return a text without beginnings and ends of secrets at a cut (`...`), however spelt."""
        pieces = _CUT.split(text)  # text, cut, text, cut, …, text
        for n in range(0, len(pieces), 2):
            if n + 1 < len(pieces):
                known = self._beginnings.get(pieces[n][_LAST], ())
                if found := next(filter(pieces[n].endswith, known), ""):
                    pieces[n] = pieces[n].removesuffix(found) + MASK
            if n:
                known = self._ends.get(pieces[n][_FIRST], ())
                if found := next(filter(pieces[n].startswith, known), ""):
                    pieces[n] = MASK + pieces[n].removeprefix(found)
        return "".join(pieces)


_FIRST, _LAST = slice(None, SHORTEST_PIECE), slice(-SHORTEST_PIECE, None)


def _grouped(pieces: Iterable[str], by: slice) -> dict[str, list[str]]:
    """Return pieces by their first or last characters, the longest of each group first."""
    groups: dict[str, list[str]] = {}
    for piece in sorted(pieces, key=len, reverse=True):
        groups.setdefault(piece[by], []).append(piece)
    return groups


def _masked(match: re.Match[str]) -> str:
    """Return a setting with its value masked, in the quotes that it has."""
    quote = re.match(_QUOTE, match[2])
    around = quote[0] if quote else ""
    return f"{match[1]}{around}{MASK}{around}"


def _in_place(spelt: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of a secret that counts only where a password stands."""
    secret = "|".join(re.escape(text) for text in spelt)
    return re.compile(
        rf"(?i:(?<=:)|(?<=%3A)|(\b{_NAME}{_QUOTE}?\s*[=:]\s*b?{_QUOTE}?))"
        rf"(?:{secret})(?=(?i:@|%40)|(?(1)(?:[\s&;,)\]}}<]|{_QUOTE}|$)|(?!)))"
    )


@cache
def vocabulary() -> str:
    """Return everything that the package itself may say, its specs included."""
    folder = Path(__file__).resolve().parents[1]
    found = [path for suffix in ("py", "toml", "sql") for path in folder.rglob(f"*.{suffix}")]
    return "\n".join(path.read_text("utf-8", errors="replace") for path in sorted(found))


def scrubber_for(
    values: Iterable[str] = (),
    *,
    sources: Iterable[str] = (),
    public: Iterable[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Scrubber:
    """Return the scrubber of a run that was given these values and sources.

    `public` is what may be read by everybody anyway, beside the package's own words.
    """
    known = find(values, environment, sources)
    return Scrubber(known, [vocabulary(), *public] if known.secrets else ())
