"""02_migrate: apply the plan, with counts before and after, the proof and the checks."""

from pathlib import Path

import psycopg

from runbook.catalog import snapshot
from runbook.catalog.ledger import read_applied, read_recorded
from runbook.errors import (
    BlockedError,
    ChecksFailed,
    NotApproved,
    Outcome,
    PlanDiffers,
    RefusedError,
    RunbookError,
)
from runbook.export import Prisma, recorded_check
from runbook.notebook.approval import approval_of, differs, newest_approved
from runbook.notebook.planning import Planning
from runbook.notebook.recorded import is_vouched
from runbook.notebook.verification import Checking
from runbook.numbers import duration
from runbook.parameters import MigrateParameters
from runbook.plan import Plan
from runbook.plan.alike import alike_sha256
from runbook.plan.estimate import done_before, phase_spans
from runbook.record import PlanRecord, Stage, after_commit
from runbook.report import html, statements
from runbook.report.summary import proof_facts
from runbook.report.timeline import resumed, timeline
from runbook.run import Applied, Course, Record, apply_atomic
from runbook.run.online import AppliedOnline, Journal, apply_online
from runbook.spec import load_spec, split_reference
from runbook.verify import Counted, count_rows
from runbook.vocabulary import Check, Phase


class Migration(Planning[MigrateParameters], Checking[MigrateParameters]):
    """The migration itself. On a database that is migrated already it only asks the checks."""

    step = "migrate"
    stage = Stage.READING
    parameters_type = MigrateParameters

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._applied: Applied | AppliedOnline | None = None
        self._counted: Counted | None = None
        self._prisma: Prisma | None = None

    def vouched(self, sha256: str) -> bool:
        given = self.parameters
        return is_vouched(
            given.reports,
            sha256,
            self.spec,
            self.catalog.server,
            approved=given.approved_plan,
            keys=given.approver_keys,
        )

    @property
    def named_keys(self) -> str:
        return self.parameters.approver_keys

    @property
    def allows_models(self) -> bool:
        return self.parameters.allow_models

    @property
    def is_strict(self) -> bool:
        return self.parameters.strict

    def make_plan(self) -> None:
        super().make_plan()
        if self.is_repeat:
            self._compare_applied_plan()
            return
        with self._timed("approval"):
            assert self.plan is not None and self.record.plan is not None
            approved = self.parameters.approved_plan.strip().lower()
            self.record.plan.approved = approved or None
            self.record.plan.alike_sha256 = self._alike(self.plan)
            if not approved or self.record.plan.is_approved:
                self._find_approval(self.record.plan, self.plan)
            self.show(html.facts({"Approved": self.record.plan.approval_said}))
            if approved and not self.record.plan.is_approved:
                raise self._differing(approved, self.plan)
        self._compare_prisma(self.plan)

    def _alike(self, plan: Plan) -> str | None:
        """Return the plan's hash as it would be in the schema that the spec itself names, where the
        run is for another one."""
        file, schema = split_reference(self.parameters.spec)
        return alike_sha256(plan, load_spec(file)) if schema else None

    def _compare_prisma(self, plan: Plan) -> None:
        """Find the plan's migration in the Prisma folder, where one is named."""
        folder = self.parameters.prisma_dir
        if folder:
            with self._timed("prisma"):
                self._prisma = Prisma.of(
                    self.connection, self.spec, self.catalog, plan, Path(folder)
                )
                self.show(html.facts({"Prisma": self._prisma.said}))

    def further_checks(self) -> tuple[Check, ...]:
        if not self.parameters.prisma_dir:
            return ()
        if self._prisma is not None:
            return (self._prisma.check(),)
        recorded = read_recorded(self.connection, self.parameters.ledger_schema, self.spec)
        assert recorded is not None  # the checks are those of a recorded run
        check = recorded_check(
            self.connection,
            self.spec,
            self.catalog,
            Plan.of(recorded.plan),
            Path(self.parameters.prisma_dir),
        )
        if check is None:
            self.show(html.line("The Prisma folder has no migration of this run: none is checked."))
        return (check,) if check else ()

    @property
    def _records(self) -> tuple[Record, ...]:
        """Return what else records the run, in its transaction."""
        return (self._prisma.record,) if self._prisma else ()

    def _find_approval(self, noted: PlanRecord, plan: Plan) -> None:
        """Note the approval of the plan in the archive. Raises `NotApproved`, or `PlanDiffers`
        where another plan of this migration was approved, if one is required and there is none."""
        try:
            noted.approval = approval_of(noted.alike_sha256 or plan.sha256, self.parameters)
        except NotApproved:
            other = newest_approved(self.parameters, self.spec.name)
            if other is None or other == plan.sha256:
                raise
            raise self._differing(other, plan) from None
        if noted.approval:
            noted.approved = noted.alike_sha256 or plan.sha256

    def _differing(self, approved: str, plan: Plan) -> PlanDiffers:
        """Show how the plan differs from the approved one, and return the refusal."""
        refusal = differs(plan, approved, self.parameters.reports)
        if refusal.differences:
            rows = [(what,) for what in refusal.differences]
            self.show(html.table(["What changed since the plan was approved"], rows))
        else:
            self.show(
                html.line("The archive holds no review of the approved plan to compare with.")
            )
        return refusal

    def _compare_applied_plan(self) -> None:
        """Refuse where an approved plan is named and another one was applied."""
        with self._timed("approval"):
            approved, entry = self.parameters.approved_plan.strip().lower(), self.entry()
            if approved and approved not in (entry.plan_sha256, self._recorded_alike()):
                raise PlanDiffers(approved=approved, actual=entry.plan_sha256)
            if approved and self.unproved:
                raise RefusedError(
                    f"That the approved plan {approved[:12]}… was applied is no more than what the "
                    f"ledger says, and {self.unproved}.",
                    "Nothing was changed. Name with --reports the archive that has the report of "
                    f"run {entry.run_id}; or leave out --approved-plan, and take it as that word.",
                )

    def _recorded_alike(self) -> str | None:
        """Return the same of the plan that the ledger recorded."""
        recorded = read_recorded(self.connection, self.parameters.ledger_schema, self.spec)
        return self._alike(Plan.of(recorded.plan)) if recorded else None

    def apply(self) -> None:
        """Apply the plan, and show each statement with its time and lock."""
        if self.is_repeat:
            self.skip()
            return
        with self._timed("apply"):
            if self.plan is None:
                raise BlockedError("There is no plan yet.", "Run the cells in their order.")
            ways = {"atomic": self._apply_atomic, "online": self._apply_online}
            ways[self.plan.mode](self.plan)

    def _apply_atomic(self, plan: Plan) -> None:
        """Apply it in one transaction."""
        course, shares = Course(), done_before(plan.of_phase(Phase.ATOMIC), self.rows)
        self.stage = Stage.CHANGING
        self.tell_progress()
        try:
            applied = apply_atomic(
                self.open,
                self.spec,
                self.catalog,
                plan,
                run_id=self.run_id,
                wait_ms=self.parameters.lock_timeout_ms,
                max_wait_ms=self.parameters.max_wait_ms,
                progress=lambda text: self.tell(text, shares.get(text, 0.0)),
                course=course,
                records=self._records,
            )
            self.stage = Stage.CHANGED
            self.tell("committed and proved", 1.0)
            self._applied, self._counted = applied, Counted.of(applied)
            self.record.note_applied(applied)
        finally:
            self.record.statements = [vars(one).copy() for one in course.statements()]
            self.record.proof = course.proof.content() if course.proof else None
            if self._applied:
                self.show(html.facts({"Table locked for": f"{course.locked_ms:,.1f} ms"}))
            self.show(statements.executed(course.statements()))

    def _apply_online(self, plan: Plan) -> None:
        """Apply it while the application goes on, or go on where an earlier run was stopped."""
        journal, applied = Journal(), None
        spans = phase_spans(plan.statements, self.rows)
        self.stage = Stage.RESUMABLE
        self.tell_progress()

        def tell(phase: Phase, text: str, share: float) -> None:
            self.record.note_online(None, journal)
            self.tell_progress()
            # A phase that has nothing to do in this plan is told of, too.
            begins, ends = spans.get(phase, (0.0, 0.0))
            self.tell(f"{phase}: {text}", begins + share * (ends - begins))

        try:
            applied = apply_online(
                self.open,
                self.spec,
                self.catalog,
                plan,
                run_id=self.run_id,
                wait_ms=self.parameters.lock_timeout_ms,
                limits=self.parameters.limits,
                journal=journal,
                tell=tell,
                records=self._records,
            )
            self.stage = Stage.CHANGED
            self._applied = applied
            self.tell("cutover: done", 1.0)
        finally:
            self.record.note_online(applied, journal)
            self.tell_progress()
            self.show(*timeline(journal), statements.executed(journal.executed))
        before = self.record.counts.before
        entry = read_applied(self.connection, plan.ledger_schema, self.spec)
        with snapshot(self.connection):
            self._counted = count_rows(self.connection, self.spec, entry.cutover if entry else None)
        self.note_rows(self._counted)
        self.record.counts.before = before

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
            self._compare_times()
            if proof:
                self.show(html.facts(proof_facts(proof)))
            if labels:
                from runbook.report.chart import category_chart

                total = counts.before.total if counts.before else counts.after.total
                series = {"predicted": labels, "after": counts.after.categories}
                self.show(category_chart(self.spec.heading, total, series))

    def _compare_times(self) -> None:
        """Show what was estimated beside what it was."""
        plan, locked = self.record.plan, self.record.locked_ms
        if plan is None or plan.estimated_ms is None or plan.estimated_lock_ms is None:
            return
        took = self.record.timings["apply"] * 1000
        rows = [("time", self._estimated(plan.estimated_ms), duration(took))]
        if locked is not None:
            rows.append(("longest lock", self._estimated(plan.estimated_lock_ms), duration(locked)))
        self.show(html.table(["", "estimated", "actual"], rows))

    def verify(self) -> None:
        """Ask every check, in a connection of its own after the commit.

        The rows were counted already: atomic under the lock, by the transaction's last statement,
        online right after the cutover. Counting them once more would say nothing about the run,
        since the application writes again.
        """
        with self._timed("verify"):
            self.read_after()
            counted = self.ask(self._counted)
            if self._counted is None:
                self.note_rows(counted)

    def read_after(self) -> None:
        """Read the catalog again where this run changed it."""
        if not self.is_repeat:
            from runbook.catalog import read_catalog

            self._catalog = read_catalog(
                self.connection, self.spec, ledger_schema=self.parameters.ledger_schema, count=False
            )

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            if self._applied is None:
                self.judge(
                    Outcome.ALREADY_APPLIED,
                    f"{self.applied_said}; all {len(self.record.checks)} checks passed again.",
                )
            else:
                self.judge(
                    Outcome.SUCCEEDED,
                    f"{self.spec.heading} is applied: {_what_was_done(self._applied)}, "
                    f"all {len(self.record.checks)} checks passed.{self._resumed()}",
                )

    def _resumed(self) -> str:
        """Return which run was resumed, in a sentence, if any."""
        before = resumed(self.record.online)
        return f" It resumed {before}." if before else ""

    def database_failure(self, error: psycopg.Error) -> RunbookError:
        failure = super().database_failure(error)
        if self._applied is None:
            return failure
        return ChecksFailed(failure.message, after_commit(self.step))


def _what_was_done(applied: Applied | AppliedOnline) -> str:
    """Return what was done to the rows, in a few words."""
    if isinstance(applied, Applied):
        return f"{applied.after.rows:,} rows before and after, no value altered"
    if applied.proof.covers == "table":
        return (
            f"{applied.rows:,} rows before and after, no value altered, while the application "
            "could go on"
        )
    return (
        f"{applied.rows:,} rows, {applied.updated:,} of them updated and no value altered "
        "by that, while the application went on"
    )
