"""Contracting: removing the view under the old name, and the triggers that serve it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from runbook.errors import RolledBack, RunbookError
from runbook.facts import Act, Table
from runbook.run.online.guard import guarded
from runbook.run.online.journal import Journal
from runbook.run.online.short import LostCommit, Short, Transaction
from runbook.run.rollback import what_failed
from runbook.trust.preflight import require_trusted
from runbook.vocabulary import Phase, Role, Statement


def left_to_drop(
    connection: psycopg.Connection[Any], statements: Sequence[Statement]
) -> tuple[Statement, ...]:
    """Return the recorded statements without those whose object is gone already: none, where
    nothing is left to be removed."""
    there = [one for one in statements if _is_there(connection, one)]
    return tuple(there) if any(_drops(one) for one in there) else ()


def drops_view(statement: Statement) -> bool:
    """Return whether a recorded statement is the one that removes the view."""
    return _drops(statement) and statement.sql.startswith("DROP VIEW ")


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What a recorded statement drops."""

    kind: str
    """`VIEW`, `TRIGGER` or `FUNCTION`."""
    name: str
    """As SQL names it, but a trigger's bare."""
    table: str | None
    """A trigger's table."""


def dropped(statement: Statement) -> Dropped:
    """Return what a recorded statement drops; a setting or a lock is none of these."""
    match = _DROP.fullmatch(statement.sql)
    assert match is not None, statement.sql
    kind, name, table = match.groups()
    if kind == "TRIGGER":
        name = name[1:-1].replace('""', '"')
    return Dropped(kind=kind, name=name, table=table)


def is_drop(statement: Statement) -> bool:
    """Return whether a statement is such that `dropped` can read it."""
    return bool(_DROP.fullmatch(statement.sql))


def _drops(statement: Statement) -> bool:
    return statement.role is Role.CHANGE


def _is_there(connection: psycopg.Connection[Any], statement: Statement) -> bool:
    """Return whether what a statement removes is there; a setting and the lock remove nothing."""
    if not _drops(statement):
        return True
    one = dropped(statement)
    row = connection.execute(_THERE[one.kind], {"name": one.name, "table": one.table}).fetchone()
    return row is not None


_NAME = r'"(?:[^"]|"")*"'
_DROP = re.compile(
    rf"DROP (VIEW|TRIGGER|FUNCTION) ({_NAME}(?:\.{_NAME})?(?:\(\))?)(?: ON ({_NAME}\.{_NAME}))?"
)
_THERE: dict[str, LiteralString] = {
    "VIEW": "SELECT FROM pg_class WHERE oid = to_regclass(%(name)s) AND relkind = 'v'",
    "TRIGGER": "SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%(table)s)"
    " AND tgname = %(name)s AND NOT tgisinternal",
    "FUNCTION": "SELECT FROM pg_proc WHERE oid = to_regprocedure(%(name)s)",
}


def contract(
    connect: Callable[[], psycopg.Connection[Any]],
    table: Table,
    statements: Sequence[Statement],
    *,
    wait_ms: int,
    max_wait_ms: int,
    ledger_schema: str,
    trust_owner_code: bool = False,
    journal: Journal,
) -> None:
    """Run the recorded statements in one short transaction.

    Raises `RefusedError` if another run is at work or the table cannot be locked, and `RolledBack`
    where a statement fails.
    """
    short = Short(
        connect=connect,
        table=table,
        journal=journal,
        max_wait_s=max_wait_ms / 1000,
        tell=lambda phase, text, share: None,
    )

    def _judge(connection: psycopg.Connection[Any]) -> None:
        require_trusted(
            connection,
            [(table.schema, table.name)],
            acts=frozenset({Act.DEFINE}),
            ledger_schema=ledger_schema,
            trusted=trust_owner_code,
        )

    try:
        with guarded(connect, table, wait_ms=wait_ms), journal.phase(Phase.CONTRACT):
            short.run(Transaction(phase=Phase.CONTRACT, statements=statements, judge=_judge))
    except LostCommit:
        raise RunbookError(
            "The connection was lost while committing: it is all gone, or all still there.",
            "Run again: it looks first.",
        ) from None
    except (psycopg.Error, KeyboardInterrupt) as error:
        raise RolledBack(
            what_failed(error), "It was rolled back: the view serves as before."
        ) from error
