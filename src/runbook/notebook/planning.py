"""What review and migration have in common: findings, prediction and plan, shown to a person."""

from typing import TypeVar

from runbook.facts import Act
from runbook.notebook.findings import stop_at_blockers
from runbook.notebook.recorded import is_vouched
from runbook.notebook.session import Session, recorded_run, unfinished_run
from runbook.numbers import duration
from runbook.parameters import PlanParameters
from runbook.plan import Plan, blockers, build_plan, resumed_plan, review
from runbook.plan.estimate import FIXED_MS, by_statement, expected
from runbook.plan.script import script
from runbook.record import PlanRecord
from runbook.report import html, rules, statements
from runbook.trust.owner_code import EVERY_ACT
from runbook.verify.models import foreseen_findings, import_findings
from runbook.vocabulary import Finding, Level, Phase

P = TypeVar("P", bound=PlanParameters)


class Planning(Session[P]):
    """A notebook that makes a plan."""

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._plan: Plan | None = None

    @property
    def is_repeat(self) -> bool:
        """Whether an earlier run did it all."""
        return self.catalog.applied is not None

    @property
    def is_strict(self) -> bool:
        """Whether what the spec did not expect forbids the run."""
        return False

    @property
    def only_reads(self) -> bool:
        """Whether the notebook makes the plan for somebody else to run."""
        return False

    def require_trust(self, acts: frozenset[Act] | None = None) -> None:
        """Leave it to the review, which says everything at once, but for some `acts`."""
        if acts:
            super().require_trust(acts)

    def find(self) -> None:
        """Review the catalog, show the findings, and stop at a blocker."""
        with self._timed("review"):
            # Where there is no review, what it would refuse for want of trust is asked for here.
            if self.is_repeat:
                self.require_trust(frozenset({Act.READ}))
                self._show_repeat()
                return
            if self.catalog.unfinished:
                self.require_trust(EVERY_ACT)
                self.note_unfinished(self.catalog.unfinished)
                self.show(unfinished_run(self.catalog.unfinished))
                return
            findings = review(
                self.spec,
                self.catalog,
                self.parameters.options,
                strict=self.is_strict,
                reading=self.only_reads,
            )
            findings += tuple(import_findings(self.spec, allowed=self.parameters.allow_models))
            if self.spec.models and not blockers(findings):
                findings += self._foreseen()
            self.note_findings(findings)
            stop_at_blockers(findings)

    def vouched(self, sha256: str) -> bool:
        """Return whether somebody vouches for a recorded plan of that hash."""
        return is_vouched(self.parameters.reports, sha256, self.spec, self.catalog.server)

    def _foreseen(self) -> tuple[Finding, ...]:
        """Return what the checks will find of the application's models."""
        return tuple(foreseen_findings(self.connection, self.spec))

    def make_plan(self) -> None:
        """Make the plan, and show its hash and its reasons."""
        if self.is_repeat:
            self.skip()
            return
        with self._timed("plan"):
            assert self.catalog.table is not None
            options, unfinished = self.parameters.options, self.catalog.unfinished
            plan = (
                resumed_plan(self.spec, self.catalog, options.mode, vouched=self.vouched)
                if unfinished
                else build_plan(self.spec, self.catalog, options)
            )
            self._plan = plan
            self.record.plan = PlanRecord(
                sha256=plan.sha256,
                mode=plan.mode,
                approved=None,
                estimated_ms=plan.estimated_ms,
                estimated_lock_ms=plan.estimated_lock_ms,
            )
            self.record.plan_sql = script(self.spec, plan, self.catalog.table)
            back = plan.of_phase(Phase.ROLLBACK)
            there = [one for one in plan.statements if one.phase is not Phase.ROLLBACK]
            self.show(
                html.facts(
                    {
                        "Plan": plan.sha256,
                        "Mode": plan.mode,
                        "Phases": " → ".join(dict.fromkeys(one.phase for one in there)),
                        "Statements": f"{len(there)}, in full in plan.sql; "
                        f"{len(back)} more are the way back (`runbook rollback`)",
                        "Estimated time": self._estimated(plan.estimated_ms),
                        "Estimated lock": f"{self._estimated(plan.estimated_lock_ms)}, ACCESS "
                        "EXCLUSIVE",
                        **({"Why": " ".join(plan.reasons)} if plan.reasons else {}),
                    }
                )
            )

    def _estimated(self, nominal_ms: float) -> str:
        """Return a duration with its range, by the sample."""
        found = expected(nominal_ms, self.catalog.sample, fixed_ms=FIXED_MS)
        return f"{duration(found.likely_ms)} ({statements.between(found)})"

    def show_statements(self) -> None:
        """Show every statement of the plan with its lock and its undo."""
        if self.plan is None:
            self.skip()
            return
        sample = self.catalog.sample
        ranges = by_statement([*self.plan.statements], self.rows, sample)
        self.show(statements.planned(self.plan.statements, ranges))
        if sample is not None:
            self.show(
                html.line(
                    f"Times are scaled by a sample: {sample.rows:,} rows were read and hashed at "
                    f"{sample.median_us:,.1f} µs each (from {sample.least_us:,.1f} to "
                    f"{sample.most_us:,.1f} µs). A rehearsal measures the statements themselves."
                )
            )

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return self.catalog.census.total if self.catalog.census else 0

    def predict(self) -> None:
        """Show how the rules classify the rows as they are: per rule, the values behind, and what
        another order of the rules would give."""
        if self.is_repeat:
            self.skip()
            return
        with self._timed("predict"):
            census, classify = self.catalog.census, self.spec.classify
            if census is None or classify is None:
                self.skip()
                return
            self.show(rules.rules(classify, census))
            self.show(*rules.values_without_rule(classify, census), rules.values_behind(census))
            if census.nulls:
                self.show(rules.nulls(census))
            self.show(*rules.readings(census))

    def chart(self) -> None:
        """Show the prediction as a chart."""
        census = self.catalog.census
        if self.is_repeat or census is None or not census.rules:
            self.skip()
            return
        with self._timed("chart"):
            from runbook.report.chart import category_chart

            series = rules.charted(census)
            self.show(category_chart("Predicted categories", census.total, series))

    def _show_repeat(self) -> None:
        """Show the run that did it, and whether it ran the same spec."""
        entry = self.entry()
        self.note_unproved(entry)
        self.show(html.banner("plain", "Already applied: nothing is to be done.", ""))
        self.show(recorded_run(entry))
        if entry.spec_sha256 != self.spec.sha256:
            changed = Finding(
                level=Level.WARNING,
                code="spec-changed",
                object=self.spec.name,
                message="The spec is not the one that was applied.",
                remedy="The checks ask for what this spec says.",
            )
            self.note_findings((changed,))

    @property
    def applied_said(self) -> str:
        """Say that it is applied already, as far as that is known."""
        entry = self.entry()
        said = f"{self.spec.heading} was applied at {entry.applied_at} by run {entry.run_id}"
        if self.unproved:
            return f"The ledger says that {said}, and {self.unproved}: it is not proved"
        return said

    def skip(self) -> None:
        """Say that a cell has nothing to do."""
        why = (
            "Already applied: skipped."
            if self.is_repeat
            else "The rows were not counted by rules: there are none, or a finding says why not."
        )
        self.show(html.line(why))

    @property
    def plan(self) -> Plan | None:
        """The plan, or None where there is nothing to do."""
        return self._plan
