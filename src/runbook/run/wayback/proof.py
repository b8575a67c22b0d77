"""The proof of a rollback: every row fingerprinted before it and after it, by the recorded query.

Both are taken outside the lock, so the application may write in between. Where they differ, the
server's counters of written rows tell whether it did.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.catalog import snapshot
from runbook.catalog.written import SETTLING_S, written
from runbook.facts import LedgerEntry, Written
from runbook.plan import Plan
from runbook.run.course import Course
from runbook.run.online.journal import Journal
from runbook.run.tally import Tally
from runbook.trust.holding import holding, require_known
from runbook.trust.settings import for_reading
from runbook.vocabulary import Phase, Role

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the fingerprints say."""

    verdict: str
    """In words."""
    passed: bool | None
    """None where nothing could be shown of the table as a whole."""
    content: dict[str, object]
    """For the record."""


def tally(
    connection: Connection,
    plan: Plan,
    role: Role,
    journal: Journal,
    *,
    known_code: Collection[str] = (),
) -> Tally:
    """Count and fingerprint every row by the recorded query, in a snapshot of its own."""
    (statement,) = (one for one in plan.of_phase(Phase.ROLLBACK) if one.role is role)
    course = Course()
    table = plan.table_after if role is Role.TALLY_BEFORE else plan.table_before
    tables, ledger_schema = [(plan.schema, table)], plan.ledger_schema
    with snapshot(connection, holding(connection, tables, ledger_schema=ledger_schema)):
        connection.execute(for_reading().encode())
        require_known(connection, tables, ledger_schema=ledger_schema, known=known_code)
        found = Tally.of(course.execute(connection, statement))
    course.end()
    journal.executed += course.statements()
    return found


def compare_tallies(
    connection: Connection,
    entry: LedgerEntry,
    before: Tally,
    after: Tally,
    counted: Written,
    *,
    unproved: str = "",
) -> Comparison:
    """Compare the rows before and after, and with those that the run recorded.

    `counted` is what the server had counted before the first of both; `unproved` says in a few
    words why what is recorded is no more than somebody's word, where it is.
    """
    recorded = entry.hashes
    passed: bool | None = (before.rows, before.fingerprint) == (after.rows, after.fingerprint)
    if not passed and _was_written(connection, entry, counted):
        passed = None
    verdict = _verdict(entry, recorded, before, after, passed=passed, unproved=unproved)
    return Comparison(
        verdict=verdict,
        passed=passed,
        content={
            "algorithm": "the recorded plan's own query, before the rollback and after it",
            "rows_before": before.rows,
            "rows_after": after.rows,
            "fingerprint_before": before.fingerprint,
            "fingerprint_after": after.fingerprint,
            "fingerprint_recorded": recorded,
            "passed": passed,
            "covers": "table",
            "says": f"{verdict[0].upper()}{verdict[1:]}.",
            "batches": None,
            "different": [],
        },
    )


def _verdict(
    entry: LedgerEntry,
    recorded: str | None,
    before: Tally,
    after: Tally,
    *,
    passed: bool | None,
    unproved: str,
) -> str:
    if passed is None:
        return (
            "rows were written while the run was taken back, so that it altered none could not be "
            f"shown of the table as a whole ({before.rows:,} rows before, {after.rows:,} after)"
        )
    if not passed:
        return (
            f"the rows are not as they were before the rollback ({after.rows:,} of them), and "
            "nobody else was seen to write"
        )
    return _since(entry, recorded, after, unproved=unproved)


def _since(entry: LedgerEntry, recorded: str | None, after: Tally, *, unproved: str) -> str:
    """Return what is known of the rows since the migration, where the rollback altered none."""
    if recorded is None:
        return (
            "the rollback altered no row; the run, which was online, took no fingerprint of the "
            "whole table"
        )
    is_same = (recorded, entry.rows) == (after.fingerprint, after.rows)
    if unproved:
        found = "as the ledger has it" if is_same else "not as the ledger has it"
        return (
            f"the rollback altered no row; the table is {found}, and {unproved}: of what was done "
            "to the rows since the migration that proves nothing"
        )
    if is_same:
        return "every row is as it was before the migration"
    if entry.is_restored:
        return (
            "the rollback altered no row; what the run recorded of them says nothing here, for the "
            "database was restored from a dump since"
        )
    return "rows were written since the migration; the rollback altered none"


def _was_written(connection: Connection, entry: LedgerEntry, before: Written) -> bool:
    """Return whether anybody wrote, or may have; a session tells what it has counted late."""
    deadline = time.monotonic() + SETTLING_S
    while True:
        now = written(connection, entry.table_oid)
        if now.rows is None or now != before:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
