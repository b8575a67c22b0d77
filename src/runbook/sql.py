"""Composing SQL text without a connection: names and values are quoted by psycopg alone.

The plan is text, made before any connection exists and hashed; so everything variable in it goes
through `psycopg.sql`, which quotes every identifier (upper case and spaces survive) and escapes
every literal without asking the server. Run the text with a cursor and no parameters: psycopg
takes `%` for a placeholder only where parameters are passed.
"""

import re
from collections.abc import Callable, Container, Iterable
from typing import LiteralString

from psycopg import sql

from runbook.visible import is_hidden

Composable = sql.Composable

PLACEHOLDER = "${"
"""How a placeholder begins that Flyway and Liquibase fill, wherever in a file it stands."""

_UNUSUAL = re.compile(r"\$(?=\{|([^\W\d]\w*)?\$)|[^ -~]")
"""A dollar sign that begins a placeholder or a dollar quote, and what is no printable ASCII."""


def name(*parts: str) -> Composable:
    """Return a quoted name, dotted where several parts are given.

    Control characters in it, line breaks too, and what begins a placeholder or closes a dollar
    quote are written by their numbers (docs, 4.1.1): a script is read on a terminal, by tools that
    go by lines, and a name may stand in a block.
    """
    if not any(map(_is_unusual, parts)):
        return sql.Identifier(*parts)
    return sql.SQL(".").join(_by_numbers(part) for part in parts)


def _by_numbers(part: str) -> Composable:
    text = part.replace("\\", r"\\").replace('"', '""')
    return _made(f'U&"{_escaped(text, lambda code: f"{chr(92)}+{code:06x}")}"')


def value(item: object) -> Composable:
    """Return a quoted literal; the same in it is written by its numbers as in a name (docs,
    4.1.2.2)."""
    if not (isinstance(item, str) and _is_unusual(item)):
        return sql.Literal(item)
    text = item.replace("\\", r"\\").replace("'", "''")
    return _made(f"E'{_escaped(text, lambda code: f'{chr(92)}U{code:08x}')}'")


def _is_unusual(text: str) -> bool:
    return any(one[0] == "$" or is_hidden(one[0]) for one in _UNUSUAL.finditer(text))


def _escaped(text: str, how: Callable[[int], str]) -> str:
    """Return a text in which what is unusual is written as `how` writes its numbers."""

    def written(found: re.Match[str]) -> str:
        return how(ord(found[0])) if found[0] == "$" or is_hidden(found[0]) else found[0]

    return _UNUSUAL.sub(written, text)


def named(*parts: str) -> Composable:
    """Return a literal that holds a quoted name, for what takes it as text: `{it}::regclass`."""
    return value(spelled(*parts))


def spelled(*parts: str) -> str:
    """Return a quoted name as text, to be passed as a value; every character as it is."""
    return sql.Identifier(*parts).as_string(None)


def names(items: Iterable[str]) -> Composable:
    """Return quoted names, separated by commas."""
    return sql.SQL(", ").join(name(item) for item in items)


def values(items: Iterable[object]) -> Composable:
    """Return quoted literals, separated by commas."""
    return sql.SQL(", ").join(value(item) for item in items)


def compose(template: LiteralString, /, **parts: Composable | str) -> sql.Composed:
    """Fill a template; a part given as `str` is taken for a name and quoted."""
    return sql.SQL(template).format(
        **{key: name(part) if isinstance(part, str) else part for key, part in parts.items()}
    )


def join(separator: LiteralString, parts: Iterable[Composable]) -> sql.Composed:
    """Join composed parts by a separator of trusted text."""
    return sql.SQL(separator).join(parts)


def raw(trusted: str) -> Composable:
    """Return text that is no name and no value, made by this package alone."""
    return _made(trusted)


def _made(text: str) -> Composable:
    """Return finished text: nothing is put into it."""
    return sql.SQL(text)


def dollar_quoted(body: str) -> Composable:
    """Return a body as a dollar-quoted literal (docs, 4.1.2.4), by a tag not in it."""
    tag = "$body$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return sql.SQL("{}{}{}").format(*(sql.SQL(part) for part in (tag, body, tag)))


def free_name(wanted: str, taken: Container[str]) -> str:
    """Return a name that is not taken."""
    while wanted in taken:
        wanted += "_"
    return wanted


def text(composed: Composable) -> str:
    """Return the finished SQL text, the same on every machine."""
    return composed.as_string(None)


def render(template: LiteralString, /, **parts: Composable | str) -> str:
    """Fill a template and return the finished SQL text."""
    return text(compose(template, **parts))
