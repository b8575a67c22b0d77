"""02_migrate: apply the plan, with counts before and after, the proof and the checks."""

from typing import Any

import psycopg

from runbook.errors import BlockedError, ChecksFailed, Outcome, PlanDiffers, RunbookError
from runbook.notebook.planning import Planning
from runbook.notebook.verification import Checking
from runbook.parameters import MigrateParameters
from runbook.record import Stage
from runbook.report import html
from runbook.run import Applied, Course, apply_atomic
from runbook.verify import Counted
from runbook.vocabulary import Statement


class Migration(Planning[MigrateParameters], Checking[MigrateParameters]):
    """The migration itself. On a database that is migrated already it only asks the checks."""

    step = "migrate"
    stage = Stage.READING
    parameters_type = MigrateParameters

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._applied: Applied | None = None
        self._progress: Any = None
        self._told = 0

    def make_plan(self) -> None:
        super().make_plan()
        if self.is_repeat:
            self._compare_applied_plan()
            return
        with self._timed("approval"):
            assert self.plan is not None and self.record.plan is not None
            approved = self.parameters.approved_plan.strip().lower()
            self.record.plan.approved = approved or None
            what = "this plan, by its hash" if approved else "no: this run named no approved plan"
            self.show(html.facts({"Approved": what}))
            if approved and approved != self.plan.sha256:
                raise PlanDiffers(approved=approved, actual=self.plan.sha256)

    def _compare_applied_plan(self) -> None:
        """Refuse where an approved plan is named and another one was applied."""
        with self._timed("approval"):
            approved, entry = self.parameters.approved_plan.strip().lower(), self.entry()
            if approved and approved != entry.plan_sha256:
                raise PlanDiffers(approved=approved, actual=entry.plan_sha256)

    def apply(self) -> None:
        """Apply the plan in one transaction, and show each statement with its time and lock."""
        if self.is_repeat:
            self.skip()
            return
        with self._timed("apply"):
            if self.plan is None:
                raise BlockedError("There is no plan yet.", "Run the cells in their order.")
            course = Course()
            self.stage = Stage.CHANGING
            self.tell_progress()
            try:
                self._applied = apply_atomic(
                    self.open,
                    self.spec,
                    self.catalog,
                    self.plan,
                    run_id=self.run_id,
                    wait_ms=self.parameters.lock_timeout_ms,
                    progress=self._tell,
                    course=course,
                )
                self.stage = Stage.CHANGED
                self.record.note_applied(self._applied)
            finally:
                self._show_course(course)

    def _show_course(self, course: Course) -> None:
        """Note and show every statement that ran, in a run that failed too."""
        executed = course.statements()
        self.record.statements = [vars(one).copy() for one in executed]
        if self._applied:
            locked = f"{self._applied.locked_ms:,.1f} ms"
            self.show(html.facts({"Table locked for": locked}))
        self.show(
            html.table(
                ["statement", "lock", "waited (ms)", "held (ms)", "took (ms)", "rows"],
                [
                    (
                        html.Folded(one.title, html.Sql(one.sql)),
                        *(one.lock, one.waited_ms, one.held_ms, one.duration_ms, one.rows),
                    )
                    for one in executed
                ],
            )
        )

    def _tell(self, statement: Statement) -> None:
        """Say what runs now, in one line that changes: a statement may take its time."""
        from IPython.display import display

        assert self.plan is not None
        self._told += 1
        text = f"{self._told} of {len(self.plan.statements)}: {statement.title}"
        line = html.line(text)
        if self._progress is None:
            self._progress = display(line, display_id=True)
        else:
            self._progress.update(line)

    def compare(self) -> None:
        """Show the counts before, as predicted, and after, and the proof."""
        if self.is_repeat:
            self.skip()
            return
        with self._timed("compare"):
            counts, proof = self.record.counts, self.record.proof
            assert counts.after is not None
            labels = counts.predicted or {}
            self.show(
                html.table(
                    ["", "before", "predicted", "after"],
                    [
                        *(
                            (label, None, rows, counts.after.categories.get(label, 0))
                            for label, rows in labels.items()
                        ),
                        (
                            "all rows",
                            counts.before.total if counts.before else None,
                            sum(labels.values()) if labels else None,
                            counts.after.total,
                        ),
                    ],
                )
            )
            if proof:
                self.show(html.facts({key.replace("_", " "): item for key, item in proof.items()}))
            if labels:
                from runbook.report.chart import category_chart

                total = counts.before.total if counts.before else counts.after.total
                self.show(category_chart(self.spec.heading, total, labels, counts.after.categories))

    def verify(self) -> None:
        """Ask every check, in a connection of its own after the commit.

        The rows were counted under the lock, by the transaction's last statement: counting them
        once more would say nothing about the run, since the application writes again.
        """
        with self._timed("verify"):
            self.read_after()
            if self._applied is None:
                self.note_rows(self.ask())
            else:
                self.ask(Counted.of(self._applied))

    def read_after(self) -> None:
        """Read the catalog again where this run changed it."""
        if not self.is_repeat:
            from runbook.catalog import read_catalog

            self._catalog = read_catalog(
                self.connection, self.spec, ledger_schema=self.parameters.ledger_schema
            )

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            if self._applied is None:
                entry = self.entry()
                self.judge(
                    Outcome.ALREADY_APPLIED,
                    f"{self.spec.heading} was applied at {entry.applied_at} by run {entry.run_id}; "
                    f"all {len(self.record.checks)} checks passed again.",
                )
            else:
                self.judge(
                    Outcome.SUCCEEDED,
                    f"{self.spec.heading} is applied: {self._applied.after.rows:,} rows before and "
                    f"after, no value altered, all {len(self.record.checks)} checks passed.",
                )

    def database_failure(self, error: psycopg.Error) -> RunbookError:
        failure = super().database_failure(error)
        if self._applied is None:
            return failure
        return ChecksFailed(
            failure.message,
            "The migration is applied and proved, but not every check could be asked: run "
            "`runbook verify`.",
        )
