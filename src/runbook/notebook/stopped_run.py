"""Taking back an online run that was stopped: what a rollback shows and notes of it."""

from runbook.errors import ChecksFailed, RefusedError
from runbook.facts import Unfinished
from runbook.notebook.recorded import vouched
from runbook.notebook.session import Session, unfinished_run
from runbook.parameters import RollbackParameters
from runbook.plan import believed_plan
from runbook.record import PlanRecord, Stage
from runbook.report import html
from runbook.run.drift import differences
from runbook.run.online import TakenBack, take_back


class StoppedRun:
    """An unfinished run, on its way back: nobody knows its column yet."""

    def __init__(self, session: Session[RollbackParameters], unfinished: Unfinished) -> None:
        self._session, self._unfinished = session, unfinished
        self._plan = believed_plan(
            unfinished.plan,
            unfinished.plan_sha256,
            session.spec,
            run=f"run {unfinished.run_id}",
            vouched=vouched(session),
        )
        self._taken_back: TakenBack | None = None

    def find(self) -> None:
        """Show the run."""
        session, unfinished = self._session, self._unfinished
        session.note_unfinished(unfinished)
        session.record.plan = PlanRecord(
            sha256=unfinished.plan_sha256, mode=self._plan.mode, approved=None
        )
        session.show(
            html.facts({"Migration of the run": unfinished.migration}), unfinished_run(unfinished)
        )

    def examine(self) -> None:
        """Say that nothing is looked for: the transaction itself fails where something is."""
        self._session.show(html.line("The run was stopped: nobody knows its column yet."))

    def fingerprint(self) -> None:
        """Say that nothing is counted."""
        self._session.show(html.line("Each batch of the run proved its rows when it wrote them."))

    def roll_back(self) -> None:
        """Remove everything that the run added, in one short transaction."""
        session = self._session
        with session.short_change(Stage.RESUMABLE) as journal:
            self._taken_back = take_back(
                session.open,
                session.catalog,
                self._plan,
                wait_ms=session.parameters.lock_timeout_ms,
                max_wait_ms=session.parameters.max_wait_ms,
                trust_owner_code=session.parameters.trust_owner_code,
                journal=journal,
            )

    def compare(self) -> None:
        """Compare the catalog with the one that was recorded before the run."""
        found = differences(self._session.connection, self._plan)
        check = found.check(strict=True)
        self._session.record.checks = [vars(check).copy()]
        self._session.show(html.facts({"Difference from before the run": check.observed}))

    def judge(self) -> tuple[str, str]:
        """Return how it ended."""
        taken = self._taken_back
        if taken is None:
            raise RefusedError("Nothing was taken back yet.", "Run the cells in their order.")
        check = self._session.record.checks[0]
        if not check["passed"]:
            raise ChecksFailed(
                f"Run {taken.run_id} is taken back, but the catalog is not as it was before it: "
                f"{check['observed']}.",
                "The application may have changed it meanwhile; look at the difference.",
            )
        another = self._plan.migration != self._session.spec.name
        of = f" of migration {self._plan.migration!r}" if another else ""
        return (
            f"Run {taken.run_id}{of}, which had stopped at {taken.phase}, is taken back: the "
            "catalog is as it was before it.",
            "",
        )
