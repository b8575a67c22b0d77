"""The checks: questions to the database after the change, each with its SQL and its answer."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import snapshot
from runbook.facts import LedgerEntry
from runbook.operations.base import Expected, note, warning
from runbook.plan.applied import altered, unvalidated_of
from runbook.plan.changes import names_not_null
from runbook.spec import Spec
from runbook.trust.holding import holding, require_known
from runbook.trust.settings import for_reading
from runbook.verify.ask import Failure, ask
from runbook.verify.models import model_checks, require_models
from runbook.verify.rows import Counted, Unasked, count_rows
from runbook.vocabulary import Check, CheckResult, Finding

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the database answered."""

    rows: Counted
    results: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]
    """What cannot be asked any more, and what others have changed since the run."""


def verify(
    connection: Connection,
    spec: Spec,
    entry: LedgerEntry,
    counted: Counted | None = None,
    *,
    ledger_schema: str = "runbook",
    known_code: Collection[str] = (),
    allow_models: bool = False,
    more: Iterable[Check] = (),
) -> Verified:
    """Ask every check of a recorded run.

    The rows are counted here, unless `counted` says what the run itself counted in its last
    statement. Everything is asked in one read-only snapshot, so that an application that goes on
    writing makes no difference between what is counted and what is asked; only the models, which
    SQLAlchemy asks, come after it. `known_code` is code of less privileged roles that is trusted,
    `allow_models` whether the module that the spec names may be imported,
    `more` are checks beyond the spec's. Criteria of the user's own
    come first. The connection must be in autocommit mode and outside any transaction.
    """
    tables = [(spec.schema_, spec.table_after)]
    with snapshot(connection, holding(connection, tables, ledger_schema=ledger_schema)):
        connection.execute(for_reading().encode())
        require_known(connection, tables, ledger_schema=ledger_schema, known=known_code)
        counted = counted or count_rows(connection, spec, entry.cutover)
        expected = _expected_of(spec, entry, counted)
        asked = [_judge(check, connection, counted) for check in (*_checks(spec, expected), *more)]
    results = [one for one in asked if isinstance(one, CheckResult)]
    if spec.models:
        require_models(spec, allowed=allow_models)
        results += _ask_models(connection, spec, expected)
    named = set(expected.criteria.values())
    results.sort(key=lambda r: (r.id not in named, r.id if r.id in named else ""))
    unasked = (one for one in asked if isinstance(one, Finding))
    return Verified(
        rows=counted, results=tuple(results), findings=(*unasked, *_changed(spec, counted))
    )


def _changed(spec: Spec, counted: Counted) -> Iterator[Finding]:
    """Yield that rows were changed since the run, which is no fault of its."""
    since = counted.since
    if not since.total:
        return
    more = ", …" if since.total > len(since.examples) else ""
    named = f" ({'; '.join(since.examples)}{more})" if since.examples else ""
    rows = "1 row has" if since.total == 1 else f"{since.total:,} rows have"
    yield note(
        "changed-since",
        f"{spec.schema_}.{spec.table_after}",
        f"{rows} another label than the rules give{named}, written since the cutover.",
        "Nothing is to be done if the application means it; a rollback would lose these labels.",
    )


def _ask_models(connection: Connection, spec: Spec, expected: Expected) -> list[CheckResult]:
    """Ask the application's models, in a session that cannot write."""
    connection.execute("SET default_transaction_read_only = on")
    try:
        return model_checks(connection, spec, expected)
    finally:
        connection.execute("RESET default_transaction_read_only")


def _expected_of(spec: Spec, entry: LedgerEntry, counted: Counted) -> Expected:
    """Return what the checks shall find: a recorded run, and the rows each label should have."""
    return Expected(
        schema=entry.table_schema,
        table_before=spec.table,
        table_after=spec.table_after,
        table_oid=entry.table_oid,
        is_restored=entry.is_restored,
        named_not_null=not altered(entry) and names_not_null(entry.plan["facts"]),
        rows_sql=counted.sql,
        total=counted.total,
        categories=counted.expected,
        unvalidated=unvalidated_of(entry),
        criteria={str(check): name for check, name in spec.criteria.items()},
    )


def _checks(spec: Spec, expected: Expected) -> Iterator[Check]:
    for operation in spec.operations:
        yield from operation.checks(expected)
    table = expected.named
    yield Check(
        id=expected.check_id("same-table"),
        title="The table of the recorded name is there; whether it is the same as before the run "
        "cannot be shown, for the database was restored from a dump since (other OIDs)"
        if expected.is_restored
        else "It is the same table as before: renamed, not recreated (same OID)",
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


def _judge(check: Check, connection: Connection, counted: Counted) -> CheckResult | Finding:
    """Ask a check, or take its answer from the counted rows, and compare it with the expected;
    return a finding where it cannot be asked any more."""
    observed = _value(connection, check.sql) if check.part is None else counted.answer(check.part)
    if isinstance(observed, Unasked):
        return warning(
            "not-asked",
            check.id,
            f"Check {check.id} cannot be asked any more: {observed}.",
            "The run's own report has its answer at the cutover; the other checks were asked.",
        )
    return CheckResult(
        id=check.id,
        title=check.title,
        sql=check.sql,
        expected=check.expected,
        observed=observed,
        passed=not isinstance(observed, Failure) and observed == check.expected,
    )


def _value(connection: Connection, query: str) -> object:
    """Return the one value of a query, or what the server said instead."""
    found = ask(connection, query)
    return found if isinstance(found, Failure) else found[0][0] if found else None
