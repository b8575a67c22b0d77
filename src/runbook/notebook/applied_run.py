"""Taking back an applied run: what a rollback shows and notes of it."""

from runbook.errors import ChecksFailed, RefusedError
from runbook.facts import Recorded
from runbook.notebook.findings import stop_at_blockers
from runbook.notebook.recorded import vouched
from runbook.notebook.session import Session, recorded_run
from runbook.parameters import RollbackParameters
from runbook.plan import believed_plan
from runbook.plan.hand_set import GROUPS
from runbook.record import Count, CountAfter, Counts, PlanRecord, Stage
from runbook.report import html
from runbook.run.online import Journal
from runbook.run.wayback import HandSet, TakingBack


class AppliedRun:
    """A recorded run, on its way back by its recorded plan."""

    def __init__(self, session: Session[RollbackParameters], recorded: Recorded) -> None:
        given = session.parameters
        self._session = session
        session.note_unproved(recorded.entry)
        self._way = TakingBack(
            recorded=recorded,
            plan=believed_plan(
                recorded.plan,
                recorded.entry.plan_sha256,
                session.spec,
                run=f"run {recorded.entry.run_id}",
                vouched=vouched(session),
            ),
            unproved=session.unproved,
            trust_owner_code=given.trust_owner_code,
            known_code=session.known_code,
            rollback_id=session.run_id,
            discard=given.discard_categories,
            lock_budget_ms=given.lock_budget_ms,
            wait_ms=given.lock_timeout_ms,
            max_wait_ms=given.max_wait_ms,
        )

    def find(self) -> None:
        """Show the run."""
        entry = self._way.recorded.entry
        self._session.record.plan = PlanRecord(
            sha256=entry.plan_sha256, mode=entry.mode, approved=None
        )
        self._session.show(recorded_run(entry))

    def examine(self) -> None:
        """Show everything that speaks against it at once, the labels that it would lose among it.
        Raises `BlockedError` if anything does."""
        findings = self._way.examine(self._session.connection)
        self._session.note_findings(findings)
        if self._way.hand_set and self._way.hand_set.rows:
            self._session.show(*_listed(self._way.hand_set))
        stop_at_blockers(findings)

    def fingerprint(self) -> None:
        """Count and fingerprint every row, as a reader."""
        session, journal = self._session, Journal()
        before = self._way.fingerprint(session.connection, journal)
        session.record.statements = [vars(one).copy() for one in journal.executed]
        session.record.counts = Counts(before=Count(total=before.rows))
        session.show(html.facts({"Rows": before.rows, "Hash": before.fingerprint}))

    def roll_back(self) -> None:
        """Undo everything that the run did, in one short transaction, and record it."""
        with self._session.short_change(Stage.CHANGING) as journal:
            self._way.undo(self._session.open, journal)

    def compare(self) -> None:
        """Compare rows and catalog with those of before."""
        session, journal = self._session, Journal()
        after, rows = self._way.compare(session.connection, journal)
        session.record.statements += [vars(one).copy() for one in journal.executed]
        session.record.counts = Counts(
            before=session.record.counts.before, after=CountAfter(total=after.rows, categories={})
        )
        session.record.proof = rows.content
        catalog = self._way.catalog
        assert catalog is not None
        session.record.checks = [vars(catalog.check()).copy()]
        session.show(
            html.facts(
                {
                    "Rows": rows.verdict,
                    "Catalog, gone or altered": "; ".join(catalog.wrong) or "nothing",
                    "New since the run, left alone": "; ".join(catalog.new) or "nothing",
                }
            )
        )

    def judge(self) -> tuple[str, str]:
        """Return how it ended. Raises `ChecksFailed` if rows or catalog are not as they must be."""
        undone, rows, catalog = self._way.undone, self._way.rows, self._way.catalog
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
        return (
            f"{done}: {rows.verdict}. The catalog is as {self._before}.{self._lost()}",
            self._left(),
        )

    @property
    def _before(self) -> str:
        """What the catalog was compared with, in words."""
        return "the ledger has it from before" if self._way.unproved else "it was before it"

    def _left(self) -> str:
        """Return what is left to do, in a sentence."""
        undone = self._way.undone
        if undone is None or not undone.forgotten:
            return ""
        return (
            f"Prisma's history forgot {', '.join(undone.forgotten)}: take that out of the "
            "application's folder, with its edits of the schema, before the next `prisma migrate "
            "deploy`, which would run it again."
        )

    def _lost(self) -> str:
        """Return which labels were lost and what was left alone, in sentences."""
        undone, catalog, said = self._way.undone, self._way.catalog, ""
        assert undone is not None and catalog is not None
        if undone.discarded:
            when = "" if undone.counted_under_lock else ", as counted before the lock"
            said += f" {undone.discarded:,} labels that the rules do not give are lost{when}."
        elif self._way.hand_set and not undone.counted_under_lock:
            said += " That no label was set by hand was counted before the lock."
        if catalog.new:
            said += f" New since the run and left alone: {', '.join(catalog.new)}."
        return said


def _listed(found: HandSet) -> list[html.Fragment]:
    """Return the labels that would be lost, for the reader."""
    shown = [html.table(found.names, found.largest)]
    if found.groups > GROUPS:
        rest = found.rows - sum(int(str(group[-1])) for group in found.largest)
        shown.append(html.line(f"{found.groups - GROUPS:,} more groups with {rest:,} rows."))
    return shown
