"""The checks: questions to the database after the change, each with its SQL and its answer."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.facts import LedgerEntry
from runbook.operations.base import Expected
from runbook.spec import Spec
from runbook.verify.models import model_checks
from runbook.vocabulary import Check, CheckResult

Connection = psycopg.Connection[Any]


def expected_of(spec: Spec, entry: LedgerEntry, categories: Mapping[str, int]) -> Expected:
    """Return what the checks shall find: a recorded run, and the rows each label should have."""
    return Expected(
        schema=entry.table_schema,
        table_before=spec.table,
        table_after=spec.table_after,
        table_oid=entry.table_oid,
        categories=categories,
        unvalidated=entry.unvalidated,
        criteria={str(check): name for check, name in spec.criteria.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Present:
    """The migrated table as it is now."""

    total: int
    predicted: Mapping[str, int]
    """Rows per label as the rules give them now. What was recorded cannot be expected at a later
    time: the application goes on writing."""
    categories: Mapping[str, int]
    """Rows per label as they stand in the table."""


def count_now(connection: Connection, spec: Spec) -> Present:
    """Count the migrated table; one that lost its column, or is gone, counts as far as it can."""
    table = sql.name(spec.schema_, spec.table_after)
    label: sql.Composable = sql.compose("NULL")
    expected: sql.Composable = label
    if spec.classify:
        label = sql.compose("{column}::text", column=spec.classify.column)
        expected = spec.classify.label_expression()
    template: LiteralString = "SELECT {label}, {expected}, count(*) FROM {table} GROUP BY 1, 2"
    try:
        query = sql.render(template, label=label, expected=expected, table=table)
        rows = connection.execute(query.encode()).fetchall()
    except psycopg.errors.UndefinedColumn:
        query = sql.render("SELECT NULL, NULL, count(*) FROM {table}", table=table)
        rows = connection.execute(query.encode()).fetchall()
    except psycopg.errors.UndefinedTable:
        rows = []
    predicted, categories = Counter[str](), Counter[str]()
    for actual, right, count in rows:
        predicted.update({right: count} if right is not None else {})
        categories.update({actual: count} if actual is not None else {})
    return Present(
        total=sum(count for _, _, count in rows), predicted=predicted, categories=categories
    )


def verify(connection: Connection, spec: Spec, expected: Expected) -> tuple[CheckResult, ...]:
    """Ask every question in one read-only snapshot; criteria of the user's own come first.

    The connection must be in autocommit mode and outside any transaction.
    """
    checks = list(_checks(spec, expected))
    connection.execute("SET default_transaction_read_only = on")
    try:
        answers = {text: _ask(connection, text) for text in dict.fromkeys(c.sql for c in checks)}
        results = [_judge(check, answers[check.sql]) for check in checks]
        results += model_checks(connection, spec, expected) if spec.models else []
    finally:
        connection.execute("RESET default_transaction_read_only")
    named = set(expected.criteria.values())
    return tuple(sorted(results, key=lambda r: (r.id not in named, r.id if r.id in named else "")))


def _checks(spec: Spec, expected: Expected) -> Iterator[Check]:
    for operation in spec.operations:
        yield from operation.checks(expected)
    table = sql.value(sql.text(expected.relation))
    yield Check(
        id=expected.check_id("same-table"),
        title="It is the same table as before: renamed, not recreated (same OID)",
        sql=sql.render("SELECT {table}::regclass::oid::bigint", table=table),
        expected=expected.table_oid,
    )
    yield Check(
        id=expected.check_id("foreign-keys"),
        title="Every foreign key of the table is validated",
        sql=sql.render(
            "SELECT coalesce(jsonb_agg(pg_get_constraintdef(oid) ORDER BY conname), '[]')\n"
            "FROM pg_constraint\n"
            "WHERE conrelid = {table}::regclass AND contype = 'f' AND NOT convalidated",
            table=table,
        ),
        expected=list(expected.unvalidated),
    )


def _ask(connection: Connection, text: str) -> object:
    """Return the one value of a query, or the server's error in words."""
    try:
        row = connection.execute(text.encode()).fetchone()
    except psycopg.Error as error:
        if connection.closed:
            raise
        return _Failure(f"error {error.sqlstate}: {error.diag.message_primary}")
    return row[0] if row else None


class _Failure(str):
    """What the server said instead of an answer; equal to nothing that is expected."""


def _judge(check: Check, answer: object) -> CheckResult:
    """Compare an answer, or the part of it that the check is about, with what was expected."""
    observed = answer
    if check.part is not None and isinstance(answer, dict):
        observed = answer[check.part]
    return CheckResult(
        id=check.id,
        title=check.title,
        sql=check.sql,
        expected=check.expected,
        observed=observed,
        passed=not isinstance(observed, _Failure) and observed == check.expected,
    )
