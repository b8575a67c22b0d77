"""Taking back an applied run: what a rollback shows and notes of it."""

import psycopg

from runbook.catalog import read_table_named, snapshot
from runbook.catalog.written import written
from runbook.errors import ChecksFailed, RefusedError
from runbook.facts import Recorded, Table, Written
from runbook.notebook.findings import stop_at_blockers
from runbook.notebook.session import Session, recorded_run
from runbook.notebook.stopped_run import catalog_check
from runbook.operations.base import blocker
from runbook.parameters import RollbackParameters
from runbook.plan.hand_set import GROUPS
from runbook.record import Count, CountAfter, Counts, PlanRecord, Stage
from runbook.report import html
from runbook.run import Tally
from runbook.run.drift import Differences, differences
from runbook.run.online import Journal
from runbook.run.wayback import (
    Comparison,
    HandSet,
    Undo,
    Undone,
    compare_tallies,
    obstacles,
    read_hand_set,
    recorded_plan,
    staying,
    tally,
)
from runbook.settings import for_reading
from runbook.vocabulary import Finding, Role


class AppliedRun:
    """A recorded run, on its way back by its recorded plan."""

    def __init__(self, session: Session[RollbackParameters], recorded: Recorded) -> None:
        self._session, self._recorded = session, recorded
        self._plan = recorded_plan(recorded)
        self._table: Table | None = None
        self._hand_set: HandSet | None = None
        self._written: Written | None = None
        self._before: Tally | None = None
        self._undone: Undone | None = None
        self._rows: Comparison | None = None
        self._catalog: Differences | None = None

    def find(self) -> None:
        """Show the run."""
        entry = self._recorded.entry
        self._session.record.plan = PlanRecord(
            sha256=entry.plan_sha256, mode=entry.mode, approved=None
        )
        self._session.show(recorded_run(entry))

    def examine(self) -> None:
        """Show everything that speaks against it at once, the labels that it would lose among it.
        Raises `BlockedError` if anything does."""
        connection, plan = self._session.connection, self._plan
        with snapshot(connection):
            connection.execute(for_reading(plan.schema).encode())
            self._table = read_table_named(connection, plan.schema, plan.table_after)
            found = obstacles(connection, self._recorded, plan, self._table)
            if not any(one.code in _UNREADABLE for one in found):
                found += self._look_for_labels(connection)
        findings = (*found, *staying(plan))
        self._session.note_findings(findings)
        if self._hand_set and self._hand_set.rows:
            self._session.show(*_listed(self._hand_set))
        stop_at_blockers(findings)

    def _look_for_labels(self, connection: psycopg.Connection[object]) -> tuple[Finding, ...]:
        """Count the labels that the rules do not give."""
        plan = self._plan
        name = f"{plan.schema}.{plan.table_after}"
        try:
            with connection.transaction():
                self._hand_set = read_hand_set(connection, plan)
        except psycopg.errors.QueryCanceled:
            raise
        except (psycopg.errors.ProgrammingError, psycopg.errors.DataError) as error:
            return (
                blocker(
                    "rules-fail",
                    name,
                    "The recorded rules cannot be asked any more: "
                    f"{error.diag.message_primary or error}.",
                    "Undo what changed their columns or labels, then roll back again.",
                ),
            )
        if self._hand_set is None or not self._hand_set.rows:
            return ()
        return (self._hand_set.finding(name, discard=self._session.parameters.discard_categories),)

    def fingerprint(self) -> None:
        """Count and fingerprint every row, as a reader."""
        session, journal = self._session, Journal()
        self._written = written(session.connection, self._recorded.entry.table_oid)
        self._before = tally(session.connection, self._plan, Role.TALLY_BEFORE, journal)
        session.record.statements = [vars(one).copy() for one in journal.executed]
        session.record.counts = Counts(before=Count(total=self._before.rows))
        session.show(html.facts({"Rows": self._before.rows, "Hash": self._before.fingerprint}))

    def roll_back(self) -> None:
        """Undo everything that the run did, in one short transaction, and record it."""
        session, given = self._session, self._session.parameters
        if self._table is None or self._before is None:
            raise RefusedError("Nothing was looked at yet.", "Run the cells in their order.")
        with session.short_change(Stage.CHANGING) as journal:
            self._undone = Undo(
                connect=session.open,
                recorded=self._recorded,
                plan=self._plan,
                table=self._table,
                rollback_id=session.run_id,
                before=self._before,
                discarded=self._hand_set.rows if self._hand_set else 0,
                discard=given.discard_categories,
                lock_budget_ms=given.lock_budget_ms,
                wait_ms=given.lock_timeout_ms,
                max_wait_ms=given.max_wait_ms,
                journal=journal,
            ).run()

    def compare(self) -> None:
        """Compare rows and catalog with those of before."""
        assert self._before is not None and self._written is not None
        session, journal = self._session, Journal()
        after = tally(session.connection, self._plan, Role.TALLY_AFTER, journal)
        session.record.statements += [vars(one).copy() for one in journal.executed]
        session.record.counts = Counts(
            before=session.record.counts.before, after=CountAfter(total=after.rows, categories={})
        )
        self._rows = compare_tallies(
            session.connection, self._recorded.entry, self._before, after, self._written
        )
        session.record.proof = self._rows.content
        self._catalog = differences(session.connection, self._plan)
        session.record.checks = [catalog_check("; ".join(self._catalog.wrong))]
        session.show(
            html.facts(
                {
                    "Rows": self._rows.verdict,
                    "Catalog, gone or altered": "; ".join(self._catalog.wrong) or "nothing",
                    "New since the run, left alone": "; ".join(self._catalog.new) or "nothing",
                }
            )
        )

    def judge(self) -> tuple[str, str]:
        """Return how it ended. Raises `ChecksFailed` if rows or catalog are not as they must be."""
        undone, rows, catalog = self._undone, self._rows, self._catalog
        if undone is None or rows is None or catalog is None:
            raise RefusedError("Nothing was taken back yet.", "Run the cells in their order.")
        done = f"Run {undone.run_id} is taken back"
        if rows.passed is False:
            raise ChecksFailed(
                f"{done}, but {rows.verdict}.",
                "A rollback writes no row: keep the report, and compare the table with a backup.",
            )
        if catalog.wrong:
            more = f" ({len(catalog.wrong) - 1} more differences)" if catalog.wrong[1:] else ""
            raise ChecksFailed(
                f"{done}, but the catalog is not as it was before it: {catalog.wrong[0]}{more}.",
                "The rollback left that alone, so somebody has changed it since the run; look at "
                "the difference.",
            )
        return f"{done}: {rows.verdict}. The catalog is as it was before it.{self._lost()}", ""

    def _lost(self) -> str:
        """Return which labels were lost and what was left alone, in sentences."""
        assert self._undone is not None and self._catalog is not None
        said = ""
        if self._undone.discarded:
            when = "" if self._undone.counted_under_lock else ", as counted before the lock"
            said += f" {self._undone.discarded:,} labels that the rules do not give are lost{when}."
        elif self._hand_set and not self._undone.counted_under_lock:
            said += " That no label was set by hand was counted before the lock."
        if self._catalog.new:
            said += f" New since the run and left alone: {', '.join(self._catalog.new)}."
        return said


_UNREADABLE = {"table-differs", "row-security", "gone"}
"""Findings that forbid to ask the rows."""


def _listed(found: HandSet) -> list[html.Fragment]:
    """Return the labels that would be lost, for the reader."""
    shown = [html.table(found.names, found.largest)]
    if found.groups > GROUPS:
        rest = found.rows - sum(int(str(group[-1])) for group in found.largest)
        shown.append(html.line(f"{found.groups - GROUPS:,} more groups with {rest:,} rows."))
    return shown
