"""The plan as the statements of one transaction, proof and ledger included: plain SQL, so that any
tool can run it in a transaction of its own."""

from collections.abc import Iterator, Mapping
from itertools import dropwhile, takewhile
from typing import LiteralString

from runbook import sql
from runbook.facts import Table
from runbook.plan.digest import algorithm
from runbook.plan.ledger import create_ledger, record_rollback, record_run
from runbook.plan.model import Plan
from runbook.plan.script.guard import (
    END_OF_TRUST,
    compare,
    guard,
    last_opening,
    names_held,
    own_ledger,
    recorded,
    trust,
)
from runbook.plan.script.part import Part, part
from runbook.plan.tally import ALGORITHM
from runbook.spec import Spec
from runbook.trust.settings import EMPTY_PATH_LOCALLY, application_path
from runbook.vocabulary import Phase, Role, Statement

_COMPARE_DIGESTS = """\
DO $proof$
DECLARE
    differing text;
BEGIN
    SELECT string_agg(range::text, ', ' ORDER BY range) INTO differing
    FROM pg_temp.runbook_digests_before b
    FULL JOIN pg_temp.runbook_digests_after a USING (range)
    WHERE (a.rows, a.digest) IS DISTINCT FROM (b.rows, b.digest);
    IF differing IS NOT NULL THEN
        RAISE EXCEPTION 'the proof failed: ranges % of the key differ', differing
            USING HINT = 'Nothing was changed.';
    END IF;
END
$proof$"""

_BY_HAND = """\
DO $by_hand$
DECLARE
    others bigint;
BEGIN
    SELECT sum(wrong) INTO others FROM pg_temp.runbook_back_before;
    IF others > 0 THEN
        RAISE EXCEPTION '% rows have a label that the rules do not give, and would lose it', others
            USING HINT = 'Nothing was changed. `runbook rollback` lists them.';
    END IF;
END
$by_hand$"""

_RUN: LiteralString = """\
(SELECT l.run_id FROM {ledger} AS l
    WHERE l.plan_sha256 = {plan} AND l.run_id NOT IN (SELECT b.run_id FROM {rollback} AS b)
    ORDER BY l.applied_at DESC LIMIT 1)"""

_COUNTED = "(SELECT coalesce(sum(rows), 0) FROM pg_temp.{counted})"
_CATEGORIES = (
    "(SELECT coalesce(jsonb_object_agg(label, rows), '{{}}') FROM (SELECT label, sum(rows) AS rows"
    " FROM pg_temp.{counted} WHERE label IS NOT NULL GROUP BY label) AS counted)"
)
_HASHES = "(SELECT coalesce(sum(hashes), 0)::text FROM pg_temp.{counted})"

_DIGESTED: Mapping[str, sql.Composable] = {
    "fingerprint": sql.compose(
        "(SELECT encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY range), '')), 'hex')"
        " FROM pg_temp.runbook_digests_after)"
    ),
}

_ONLY_RUN = (Role.SAVEPOINT, Role.ROWS_BEFORE, Role.ROWS_AFTER)
"""What only the runbook does: it names the rows that differ."""


def there(spec: Spec, plan: Plan, table: Table, client: str) -> Iterator[Part]:
    """Yield what applies an atomic plan, in one transaction; a proof that fails raises an error.
    `client` is what the ledger says of who ran it. Raises `ValueError` for an online plan, of which
    there would be nothing but its record."""
    if plan.mode != "atomic":
        raise ValueError(f"a plan of mode {plan.mode} is not one transaction")
    statements = plan.of_phase(Phase.ATOMIC)
    locked = last_opening(statements)
    for statement in statements:
        if statement.role is Role.LOCK:
            yield names_held(plan, plan.table_before)
        yield from _parts(statement)
        if statement is locked:
            yield from trust(plan)
            yield guard(plan, table)
    yield END_OF_TRUST
    yield from record(spec, plan, _measured(plan, table), client)


def back(plan: Plan, client: str) -> Iterator[Part]:
    """Yield what takes an applied plan back, in one transaction, proved as `there` is. Rows are
    counted under the lock, since there is no other transaction."""
    ledger, rollback = (sql.name(plan.ledger_schema, name) for name in ("ledger", "rollback"))
    run = sql.compose(_RUN, ledger=ledger, rollback=rollback, plan=sql.value(plan.sha256))
    back = sorted(plan.of_phase(Phase.ROLLBACK), key=_opens)
    locked = last_opening(back)
    yield from map(part, takewhile(lambda one: one.role is Role.SETTING, back))
    yield own_ledger(plan.ledger_schema)
    yield recorded(plan, run)
    tallies = {Role.TALLY_BEFORE: "runbook_back_before", Role.TALLY_AFTER: "runbook_back_after"}
    for statement in dropwhile(lambda one: one.role is Role.SETTING, back):
        if statement.role in tallies:
            yield _kept(statement, tallies[statement.role])
            if statement.role is Role.TALLY_BEFORE:
                yield Part(sql=_BY_HAND, comments=("Refuse to lose a label set by hand",))
        elif statement.role is not Role.HAND_SET:
            if statement.role is Role.LOCK:
                yield names_held(plan, plan.table_after)
            yield part(statement)
            if statement is locked:
                yield from trust(plan)
    yield END_OF_TRUST
    yield compare(*tallies.values())
    counted = "runbook_back_after"
    measured = {
        "rows": sql.compose(_COUNTED, counted=counted),
        "fingerprint": sql.compose(_HASHES, counted=counted),
        "discarded": sql.value(0),
        "client": sql.value(client),
    }
    by = sql.compose("gen_random_uuid()")
    yield Part(
        sql=record_rollback(plan.ledger_schema, run, by, measured),
        comments=("Record that the run is taken back",),
    )


def record(
    spec: Spec, plan: Plan, measured: Mapping[str, sql.Composable], client: str
) -> Iterator[Part]:
    """Yield what records a run, with what only the run knows as expressions."""
    yield Part(
        sql=create_ledger(plan.ledger_schema),
        comments=("Make the ledger where it is not there yet",),
    )
    yield own_ledger(plan.ledger_schema)
    known = {"run_id": sql.compose("gen_random_uuid()"), "client": sql.value(client)}
    yield Part(
        sql=record_run(plan.ledger_schema, spec, plan, {**known, **measured}),
        comments=("Record the run",),
    )


def counted(name: str) -> Mapping[str, sql.Composable]:
    """Return rows and categories from a tally in a temporary table."""
    return {
        "rows": sql.compose(_COUNTED, counted=name),
        "categories": sql.compose(_CATEGORIES, counted=name),
    }


def _measured(plan: Plan, table: Table) -> Mapping[str, sql.Composable]:
    """Return what the tallies counted, and the fingerprint by the proof that the plan has."""
    hashes = sql.compose(_HASHES, counted="runbook_after")
    tallied = {
        **counted("runbook_after"),
        "algorithm": sql.value(ALGORITHM),
        "fingerprint": hashes,
        "hashes": hashes,
    }
    if any(one.role is Role.DIGEST_AFTER for one in plan.statements):
        return {**tallied, **_DIGESTED, "algorithm": sql.value(algorithm(table))}
    return tallied


def _opens(statement: Statement) -> bool:
    """Return whether a statement of the way back comes after settings and lock."""
    return statement.role not in {Role.SETTING, Role.LOCK}


def _kept(statement: Statement, name: str) -> Part:
    """Return a tally that goes into a temporary table."""
    return part(statement, f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS\n")


def _parts(statement: Statement) -> Iterator[Part]:
    """Yield a statement; tallies go into temporary tables, and the second is compared."""
    if statement.role is Role.TALLY_BEFORE:
        yield _kept(statement, "runbook_before")
    elif statement.role is Role.TALLY_AFTER:
        yield _kept(statement, "runbook_after")
        yield compare("runbook_before", "runbook_after")
    elif statement.role is Role.BOUNDS:
        # Kept in a setting: EXECUTE takes no subquery, and a script has no variables.
        kept = part(statement, "SELECT set_config('runbook.bounds', (\n")
        yield Part(sql=f"{kept.sql}\n)::text, true)", comments=kept.comments)
    elif statement.role in {Role.DIGEST_BEFORE, Role.DIGEST_AFTER}:
        yield from _digests(statement)
    elif statement.application_schema:
        yield Part(
            sql=application_path(statement.application_schema),
            comments=("Have triggers of the application find their tables",),
        )
        yield part(statement)
        yield Part(sql=EMPTY_PATH_LOCALLY)
    elif statement.role not in _ONLY_RUN:
        yield part(statement)


def _digests(statement: Statement) -> Iterator[Part]:
    """Yield what takes the digests of the ranges; the second ones are compared."""
    name = f"runbook_digests_{'before' if statement.role is Role.DIGEST_BEFORE else 'after'}"
    yield part(statement, f"PREPARE {name} (jsonb) AS\n")
    yield Part(
        sql=f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS\n"
        f"EXECUTE {name} (current_setting('runbook.bounds')::jsonb)"
    )
    yield Part(sql=f"DEALLOCATE {name}")
    if statement.role is Role.DIGEST_AFTER:
        yield Part(
            sql=_COMPARE_DIGESTS,
            comments=("Compare the ranges: a difference rolls everything back",),
        )
