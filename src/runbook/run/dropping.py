"""Recorded statements that drop something, and whether that is there still."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from runbook.vocabulary import Statement


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What a recorded statement drops."""

    kind: str
    """`VIEW`, `TRIGGER`, `FUNCTION`, `TYPE`, `INDEX` or `COLUMN`."""
    name: str
    """As SQL names it, but a trigger's or a column's bare."""
    table: str | None
    """A trigger's or a column's table."""


def dropped(statement: Statement) -> Dropped | None:
    """Return what a recorded statement drops, or None where it drops nothing."""
    match = _DROP.fullmatch(statement.sql)
    if match is None:
        return None
    column, of, kind, name, table = match.group("column", "of", "kind", "name", "table")
    if column:
        return Dropped(kind="COLUMN", name=_bare(column), table=of)
    return Dropped(kind=kind, name=_bare(name) if table else name, table=table)


def still_there(
    connection: psycopg.Connection[Any], statements: Sequence[Statement]
) -> list[Statement]:
    """Return recorded statements without those whose object somebody has dropped already."""
    return [one for one in statements if _is_there(connection, dropped(one))]


def _is_there(connection: psycopg.Connection[Any], one: Dropped | None) -> bool:
    if one is None:
        return True
    row = connection.execute(_THERE[one.kind], {"name": one.name, "table": one.table}).fetchone()
    return row is not None


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"')


_NAME = r'"(?:[^"]|"")*"'
_DROP = re.compile(
    rf"DROP (?P<kind>VIEW|TRIGGER|FUNCTION|TYPE|INDEX) (?P<name>{_NAME}(?:\.{_NAME})?(?:\(\))?)"
    rf"(?: ON (?P<table>{_NAME}\.{_NAME}))?"
    rf"|ALTER TABLE (?P<of>{_NAME}\.{_NAME}) DROP COLUMN (?P<column>{_NAME})"
)
_THERE: dict[str, LiteralString] = {
    "VIEW": "SELECT FROM pg_class WHERE oid = to_regclass(%(name)s) AND relkind = 'v'",
    "INDEX": "SELECT FROM pg_class WHERE oid = to_regclass(%(name)s) AND relkind IN ('i', 'I')",
    "TYPE": "SELECT FROM pg_type WHERE oid = to_regtype(%(name)s)",
    "FUNCTION": "SELECT FROM pg_proc WHERE oid = to_regprocedure(%(name)s)",
    "TRIGGER": "SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%(table)s)"
    " AND tgname = %(name)s AND NOT tgisinternal",
    # It may be that the table only takes that name just before.
    "COLUMN": "SELECT FROM (SELECT to_regclass(%(table)s) AS oid) AS t"
    " WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.oid AND c.relkind IN ('r', 'p'))"
    " OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid"
    " AND a.attname = %(name)s AND NOT a.attisdropped)",
}
