"""The checks: questions to the database after the change, each with its SQL and its answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import snapshot
from runbook.facts import LedgerEntry
from runbook.operations.base import Expected
from runbook.settings import for_reading
from runbook.spec import Spec
from runbook.verify.models import model_checks
from runbook.vocabulary import Check, CheckResult

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Present:
    """The migrated table as it is now."""

    total: int
    predicted: Mapping[str, int] = field(default_factory=dict)
    """Rows per label as the rules give them now. What was recorded cannot be expected at a later
    time: the application goes on writing."""
    categories: Mapping[str, int] = field(default_factory=dict)
    """Rows per label as they stand in the table."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the database answered."""

    present: Present
    results: tuple[CheckResult, ...]


def verify(connection: Connection, spec: Spec, entry: LedgerEntry) -> Verified:
    """Count the migrated table and ask every check of a recorded run.

    All of it in one read-only snapshot, so that an application that goes on writing makes no
    difference between what is counted and what is asked; only the models, which SQLAlchemy asks,
    come after it. Criteria of the user's own come first. The connection must be in autocommit mode
    and outside any transaction.
    """
    relation, answers = sql.name(spec.schema_, spec.table_after), dict[str, object]()
    with snapshot(connection):
        connection.execute(for_reading(spec.schema_).encode())
        if spec.classify:
            rows = spec.classify.rows_query(relation)
            answers[rows] = _ask(connection, rows)
            present = _present(answers[rows])
        if not spec.classify or present is None:
            total = _ask(connection, sql.render("SELECT count(*) FROM {table}", table=relation))
            present = Present(total=total if isinstance(total, int) else 0)
        expected = _expected_of(spec, entry, present.predicted)
        checks = list(_checks(spec, expected))
        for check in checks:
            if check.sql not in answers:
                answers[check.sql] = _ask(connection, check.sql)
    results = [_judge(check, answers[check.sql]) for check in checks]
    if spec.models:
        results += _ask_models(connection, spec, expected)
    named = set(expected.criteria.values())
    results.sort(key=lambda r: (r.id not in named, r.id if r.id in named else ""))
    return Verified(present=present, results=tuple(results))


def _ask_models(connection: Connection, spec: Spec, expected: Expected) -> list[CheckResult]:
    """Ask the application's models, in a session that cannot write."""
    connection.execute("SET default_transaction_read_only = on")
    try:
        return model_checks(connection, spec, expected)
    finally:
        connection.execute("RESET default_transaction_read_only")


def _expected_of(spec: Spec, entry: LedgerEntry, categories: Mapping[str, int]) -> Expected:
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


def _present(answer: object) -> Present | None:
    """Return what the query on the rows counted, or None where it could not be answered."""
    if not isinstance(answer, dict):
        return None
    had = {label: rows for label, rows in answer["distribution"].items() if label != "NULL"}
    return Present(
        total=sum(answer["predicted"].values()), predicted=answer["predicted"], categories=had
    )


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
        title="Every foreign key of the table that was validated still is",
        sql=sql.render(
            "SELECT coalesce(jsonb_agg(conname ORDER BY conname), '[]') FROM pg_constraint\n"
            "WHERE conrelid = {table}::regclass AND contype = 'f' AND NOT convalidated\n"
            "  AND conname <> ALL (ARRAY[{known}]::text[])",
            table=table,
            known=sql.values(expected.unvalidated),
        ),
        expected=[],
    )


def _ask(connection: Connection, text: str) -> object:
    """Return the one value of a query, or the server's error in words."""
    try:
        with connection.transaction():
            row = connection.execute(text.encode()).fetchone()
    except (psycopg.errors.QueryCanceled, psycopg.OperationalError):
        raise  # no answer is not a wrong answer
    except psycopg.Error as error:
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
