"""01_review: what is there, what will happen, and what speaks against it. Reads only."""

import subprocess
from dataclasses import asdict

from runbook.errors import Outcome
from runbook.lint import find_squawk, lint_findings, remarks
from runbook.notebook.findings import as_inventory, as_remarks
from runbook.notebook.planning import Planning
from runbook.parameters import ReviewParameters
from runbook.plan.inventory import inventory
from runbook.plan.model import canonical
from runbook.record import Stage
from runbook.report import html


class Review(Planning[ReviewParameters]):
    """The review of a migration."""

    step = "review"
    stage = Stage.READING
    parameters_type = ReviewParameters

    @property
    def only_reads(self) -> bool:
        return True

    def make_plan(self) -> None:
        super().make_plan()
        if self.plan is not None:
            # What a later run compares its own plan with, should they differ.
            self.record.plan_json = canonical(asdict(self.plan)) + "\n"

    def take_inventory(self) -> None:
        """Show what depends on the table or uses it, and what becomes of it."""
        if self.is_repeat or self.catalog.unfinished:
            return
        with self._timed("inventory"):
            around = self.catalog.surroundings
            if around is None:
                self.show(html.line("Nothing was read around the table."))
                return
            self.show(as_inventory(inventory(self.spec, self.catalog, self.parameters.options)))
            if around.hidden:
                self.show(html.line(f"Not to be seen by this role: {'; '.join(around.hidden)}."))

    def lint(self) -> None:
        """Show what squawk says of the plan, with this project's answer to each."""
        if self.plan is None:
            return
        with self._timed("lint"):
            program = find_squawk()
            if program is None:
                self.show(html.line("The linter squawk is not installed (extra `lint`): left out."))
                return
            try:
                found = remarks(self.plan, self.catalog.server.version_number, program)
            except (subprocess.SubprocessError, ValueError) as error:
                self.show(html.line(f"The linter squawk did not end well: {error}"))
                return
            self.show(as_remarks(found))
            unanswered = tuple(lint_findings(found))
            if unanswered:
                self.note_findings(unanswered)

    def conclude(self) -> None:
        """Publish the result: the hash to approve."""
        with self._timed("conclude"):
            if self.plan is None:
                self.finish(
                    Outcome.ALREADY_APPLIED,
                    f"{self.applied_said}.",
                    "Nothing is to be done; `runbook verify` asks its checks again.",
                )
                return
            self.finish(
                Outcome.SUCCEEDED,
                f"{self.spec.heading} can run; its plan is {self.plan.sha256}.",
                "Nothing was changed. Approve the plan by passing its hash to the migration "
                "(--approved-plan).",
            )
