"""05_fleet: one migration of many databases, in waves, with one report."""

import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from runbook.errors import BlockedError, Outcome
from runbook.fleet import page
from runbook.fleet.cluster import Client, each, workers
from runbook.fleet.ending import failed, require_plans, reviewed
from runbook.fleet.file import FleetFile, read_fleet
from runbook.fleet.left import resumed
from runbook.fleet.result import Result
from runbook.fleet.rollout import Course, Rolling, waves
from runbook.fleet.survey import Survey, surveyed
from runbook.fleet.targets import Target, find_targets
from runbook.fleet.worker import Surveyed, Task, is_applied, survey
from runbook.notebook.base import Notebook
from runbook.parameters import FleetParameters
from runbook.plan import Options
from runbook.record import Count, CountAfter, Counts, PlanRecord, Stage, how_to_resume
from runbook.report import html
from runbook.spec import Spec, load_spec

NOTE_S = 5.0
"""How often what became of all targets is told while more of them are at work."""


class Fleet(Notebook[FleetParameters]):
    """One migration of many databases."""

    step = "fleet"
    stage = Stage.READING
    parameters_type = FleetParameters

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._targets: tuple[Target, ...] = ()
        self._waves: tuple[tuple[Target, ...], ...] = ()
        self._survey: Survey | None = None
        self._course = Course()
        self._before: dict[str, Result] = {}
        self._open = ExitStack()
        self._client: Client | None = None
        self._noted_at = 0.0
        self.fleet_id = uuid.uuid4().hex
        super().__init__(namespace)

    def prepare(self) -> None:
        self.fleet: FleetFile = read_fleet(self.parameters.fleet)
        self.spec: Spec = load_spec(self.fleet.spec)
        self.record.migration = self.spec.name

    def close(self) -> None:
        self._open.close()

    # -- the cells -----------------------------------------------------------------------------

    def find_targets(self) -> None:
        """Find the targets where the fleet's file says, and show them in waves."""
        with self._timed("targets"):
            self._targets = find_targets(self.fleet)
            self._waves = waves(self._targets, self.fleet.rollout)
            if self.parameters.resume:
                self.fleet_id, found = resumed(self.parameters.reports, self.fleet.name)
                self._before = {name: one for name, one in found.items() if one.is_done}
            self._note()
            self.show(
                html.facts(
                    {
                        "Fleet": f"{self.fleet.name}, {self.spec.heading}",
                        "Course": self.fleet_id,
                        "Targets": f"{len(self._targets):,}"
                        + (f", {len(self._before):,} done before" if self._before else ""),
                    }
                ),
                page.waves(self._waves),
            )

    def survey(self) -> None:
        """Review every target and make its plan; show which are alike, and which differ in what.

        Left out where a plan is named: each run then refuses any other by itself.
        """
        with self._timed("survey"):
            self._ask_those_before()
            if self.parameters.approved_plan and not self.parameters.review_only:
                self.show(html.line("A plan is named: each run refuses any other by itself."))
                return
            left = [one for one in self._targets if one.name not in self._before]
            self._survey = surveyed(self._ask(left), self._rolled_out_before())
            main = self._survey.main
            if main:
                self.record.plan = PlanRecord(sha256=main.sha256, mode=main.mode, approved=None)
                self.record.plan_sql = main.content["sql"]
            self.show(*page.plans(self._survey), *page.blocked(self._survey))

    def roll_out(self) -> None:
        """Migrate the targets, wave by wave."""
        with self._timed("roll_out"):
            if self.parameters.review_only:
                self.show(html.line("Only reviewed: nothing is migrated."))
                return
            self.stage = Stage.RESUMABLE
            self.tell_progress()
            tasks = self._tasks()
            self._course.results |= self._before
            try:
                Rolling(
                    client=self.client,
                    rollout=self.fleet.rollout,
                    concurrency=self.parameters.concurrency,
                    course=self._course,
                    total=len(self._before) + sum(map(len, tasks)),
                    tell=self._tell_rollout,
                ).through(tasks)
            finally:
                self._leave()
                self._note()
            self.stage = Stage.CHANGED

    def compare(self) -> None:
        """Show what became of every target, with the counts of all of them together."""
        with self._timed("compare"):
            results = self._results()
            if not results:
                self.show(html.line("Nothing was run."))
                return
            self.show(page.outcomes(results), page.counts(self.record.counts))
            done = [one for one in results if one.rows_after is not None]
            if self.record.counts.after and done:
                from runbook.report.chart import category_chart, multiples_chart

                predicted, after = self.record.counts.predicted or {}, self.record.counts.after
                series = {"predicted": predicted, "after": after.categories}
                heading = f"{self.spec.heading}, {len(done):,} targets"
                self.show(category_chart(heading, after.total, series))
                self.show(multiples_chart({one.target: one.categories for one in done}))
            self.show(*page.slowest(results), *page.findings(results), *page.left(results))
            self.show(page.all_targets(results))

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            if self.parameters.review_only:
                assert self._survey is not None
                require_plans(self._survey, len(self._targets))
                self.finish(Outcome.SUCCEEDED, *reviewed(self._survey))
                return
            results = self._results()
            failure = failed(results, self._course.stopped, how_to_resume(self.step))
            if failure:
                raise failure
            already = all(one.outcome == Outcome.ALREADY_APPLIED for one in results)
            rows = self.record.counts.after.total if self.record.counts.after else 0
            self.finish(
                Outcome.ALREADY_APPLIED if already else Outcome.SUCCEEDED,
                f"{self.spec.heading} is applied to all {len(results):,} targets of the fleet "
                f"{self.fleet.name}: {rows:,} rows in them, every check passed.",
            )

    # -- their parts ---------------------------------------------------------------------------

    def _ask_those_before(self) -> None:
        """Ask the targets that an earlier course migrated whether they still are: what the archive
        proves, somebody may have taken back since."""
        done = [one for one in self._targets if one.name in self._before]
        if not done:
            return
        asked = each(self.client, is_applied, done, self.fleet.ledger_schema, key="applied")
        changed = [target.name for target, answer in asked if answer is not True]
        for name in changed:
            del self._before[name]
        if changed:
            some = ", ".join(sorted(changed)[:10])
            told = f"{len(changed):,} of those that were done are not migrated any more: {some}."
            self.show(html.line(told))

    def _ask(self, targets: list[Target]) -> list[Surveyed]:
        """Return the reviews of targets, in their order."""
        options, found = self._options, dict[str, Surveyed]()
        asked = each(self.client, survey, targets, self.fleet.ledger_schema, options, key="survey")
        for target, said in asked:
            lost = f"Its worker ended ({type(said).__name__})."
            found[target.name] = (
                said if isinstance(said, Surveyed) else Surveyed(target=target.name, blocker=lost)
            )
            self.tell(f"{len(found):,} of {len(targets):,} reviewed", len(found) / len(targets))
        self._progress = None
        return [found[target.name] for target in targets]

    @property
    def _options(self) -> Options:
        """The options of the plans, by the fleet's file."""
        names = vars(Options())
        given = self.fleet.parameters
        return Options(**{name: given[name] for name in names if name in given})

    @property
    def client(self) -> Client:
        """The workers, who are there from when they are first asked for."""
        if self._client is None:
            threads = -(-self.parameters.concurrency // self.parameters.workers)
            self._client = self._open.enter_context(
                workers(self.parameters.scheduler, self.parameters.workers, threads)
            )
        return self._client

    def _tasks(self) -> list[list[Task]]:
        """Return what is to be run, in waves: the targets that are left and have the plan."""
        approved, apart = self.parameters.approved_plan.strip().lower(), set[str]()
        applied = set[str]()
        if self._survey:
            approved = self._survey.wanted
            apart = {name for plan in self._survey.apart for name in plan.targets}
            apart |= self._survey.blocked.keys()
            applied = set(self._survey.applied)
        if self.record.plan is None and approved:
            self.record.plan = PlanRecord(sha256=approved, mode="", approved=approved)
        skipped = self._before.keys() | apart
        canary = [target.name for target in self._waves[0]]
        if apart.issuperset(canary):
            raise BlockedError(
                f"The canary {', '.join(canary)} cannot go first: {self._why_apart(canary[0])}",
                "Nothing was changed. Mend it, or name others as `canary` in the fleet's file: no "
                "target is migrated before one that is like it.",
            )
        return [
            [
                self._task(target, number, "" if target.name in applied else approved)
                for target in wave
                if target.name not in skipped
            ]
            for number, wave in enumerate(self._waves, start=1)
        ]

    def _task(self, target: Target, wave: int, approved: str) -> Task:
        return Task(
            target=target,
            fleet=self.fleet.name,
            fleet_id=self.fleet_id,
            wave=wave,
            reports=self.parameters.reports,
            parameters={
                **self.fleet.parameters,
                "ledger_schema": self.fleet.ledger_schema,
                "approved_plan": approved,
            },
        )

    def _tell_rollout(self, text: str, share: float) -> None:
        """Tell a person how far it is, and now and then whoever archives it if this is killed."""
        self.tell(text, share)
        if time.monotonic() - self._noted_at >= NOTE_S:
            self._noted_at = time.monotonic()
            self._note()
            self.tell_progress()

    def _leave(self) -> None:
        """Note why each target that was not tried was not."""
        for number, wave in enumerate(self._waves, start=1):
            for target in wave:
                if target.name not in self._course.results:
                    why, remedy = self._why_left(target.name)
                    left = Result.left(target.name, number, why, remedy)
                    self._course.results[target.name] = left

    def _why_left(self, name: str) -> tuple[str, str]:
        """Return why a target was not tried, and what to do."""
        survey = self._survey
        if survey and name in survey.blocked:
            return survey.blocked[name], "Then resume the fleet."
        apart = survey.apart_from_main(name) if survey else None
        if apart:
            remedy = f"If it is meant: --resume --approved-plan {apart.sha256}"
            return self._why_apart(name), remedy
        return f"Not begun. {self._course.stopped}".strip(), how_to_resume(self.step)

    def _why_apart(self, name: str) -> str:
        """Return in a sentence why a target is not migrated with the others."""
        assert self._survey is not None
        apart = self._survey.apart_from_main(name)
        if apart is None:
            return self._survey.blocked[name]
        what = "; ".join(apart.differences[:3]) or f"it has the hash {apart.sha256}"
        return f"Its plan is not the one that is rolled out: {what}."

    def _rolled_out_before(self) -> str:
        """Return the plan that an earlier course rolled out; empty where there was none."""
        named = Counter(one.approved for one in self._before.values() if one.approved)
        return named.most_common(1)[0][0] if named else ""

    def _results(self) -> list[Result]:
        """Return what became of the targets, in their order."""
        found = self._course.results
        return [
            replace(found[target.name], wave=number)
            for number, wave in enumerate(self._waves, start=1)
            for target in wave
            if target.name in found
        ]

    def _note(self) -> None:
        """Note in the record how far it is."""
        results = self._results()
        self.record.fleet = {
            "name": self.fleet.name,
            "id": self.fleet_id,
            "waves": [len(wave) for wave in self._waves],
            "stopped": self._course.stopped,
            "targets": [one.content() for one in results],
        }
        ran = [one for one in results if one.rows_after is not None]
        if ran:
            self.record.counts = Counts(
                before=Count(total=sum(one.rows_before or one.rows_after or 0 for one in ran)),
                predicted=_sum(one.predicted for one in ran),
                after=CountAfter(
                    total=sum(one.rows_after or 0 for one in ran),
                    categories=_sum(one.categories for one in ran),
                ),
            )
        locks = [one.locked_ms for one in results if one.locked_ms is not None]
        self.record.locked_ms = max(locks, default=None)
        self.record.checks = page.checks(results, len(self._targets)) if results else []


def _sum(counts: Any) -> dict[str, int]:
    """Return counts by label, added up."""
    whole: dict[str, int] = {}
    for one in counts:
        for label, rows in one.items():
            whole[label] = whole.get(label, 0) + rows
    return whole
