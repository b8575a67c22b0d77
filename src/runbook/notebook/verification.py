"""03_verify: every check again, at any later time. Reads only."""

from typing import TypeVar

from runbook.errors import ChecksFailed, Outcome
from runbook.facts import Act
from runbook.notebook.session import Session, recorded_run
from runbook.parameters import TargetParameters, VerifyParameters
from runbook.record import CountAfter, Counts, Stage
from runbook.report import html
from runbook.verify import Counted, verify
from runbook.vocabulary import Check, CheckResult, Finding

P = TypeVar("P", bound=TargetParameters)


class Checking(Session[P]):
    """A notebook that asks the checks."""

    _found: tuple[Finding, ...] = ()
    """What others have changed since the run."""
    _untold = ""
    """Why rows written since cannot be told from the run's, if so."""

    def ask(self, counted: Counted | None = None) -> Counted:
        """Ask every check, note the answers and show them; return the rows as counted, here or,
        as `counted`, by the run itself."""
        verified = verify(
            self.connection,
            self.spec,
            self.entry(),
            counted,
            ledger_schema=self.parameters.ledger_schema,
            known_code=self.known_code,
            allow_models=self.allows_models,
            more=self.further_checks(),
        )
        self.record.checks = [vars(result).copy() for result in verified.results]
        self._found = verified.findings
        self._untold = verified.rows.since.untold
        self.show(_checks(verified.results))
        if verified.findings:
            self.note_findings(verified.findings)
        return verified.rows

    @property
    def allows_models(self) -> bool:
        """Whether the module that the spec names may be imported."""
        return False

    @property
    def must_be_unchanged(self) -> bool:
        """Whether what others have changed since the run is a failure."""
        return False

    def further_checks(self) -> tuple[Check, ...]:
        """Return checks beyond the spec's."""
        return ()

    def note_rows(self, counted: Counted) -> None:
        """Note the rows as they are now, beside what the rules give."""
        none = dict.fromkeys(self.spec.classify.labels if self.spec.classify else (), 0)
        self.record.counts = Counts(
            predicted=none | dict(counted.predicted),
            after=CountAfter(total=counted.total, categories=none | dict(counted.categories)),
        )

    def judge(self, outcome: Outcome, message: str) -> None:
        """End the run by the checks: well if all passed, whatever others have changed since.
        Raises `ChecksFailed` otherwise."""
        failed = [check for check in self.record.checks if not check["passed"]]
        if failed:
            applied = (
                "That the migration is applied is what the ledger says."
                if self.unproved
                else "The migration is applied."
            )
            raise ChecksFailed(
                f"{len(failed)} of {len(self.record.checks)} checks failed: "
                f"{', '.join(check['id'] for check in failed)}.",
                f"{applied} {failed[0]['id']} expected {failed[0]['expected']!r} "
                f"and observed {failed[0]['observed']!r}: run its SQL (it is in the report), find "
                f"out what changed it, mend that, and verify again. {self._untold}".strip(),
            )
        changed = " ".join(one.message for one in self._found)
        if changed and self.must_be_unchanged:
            raise ChecksFailed(
                f"As migrated, and changed since: {changed}",
                "The migration is applied, and this is others' doing. Without --strict it is "
                "reported and no failure.",
            )
        self.finish(outcome, f"{message} {changed}".strip())


class Verification(Checking[VerifyParameters]):
    """The checks of a recorded run."""

    step = "verify"
    acts = frozenset({Act.READ})
    stage = Stage.READING
    parameters_type = VerifyParameters
    counts_rows = False  # the checks do

    @property
    def allows_models(self) -> bool:
        return self.parameters.allow_models

    @property
    def must_be_unchanged(self) -> bool:
        return self.parameters.strict

    def recorded(self) -> None:
        """Show the run that the ledger recorded."""
        with self._timed("ledger"):
            self.note_unproved(self.entry())
            self.show(recorded_run(self.entry()))

    def verify(self) -> None:
        """Ask every check."""
        with self._timed("verify"):
            self.note_rows(self.ask())

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            self.judge(
                Outcome.SUCCEEDED,
                f"All {len(self.record.checks)} checks of {self.spec.heading} passed.{self._word}",
            )

    @property
    def _word(self) -> str:
        """Say that the run itself is not proved, where that is so."""
        if not self.unproved:
            return ""
        return f" That run {self.entry().run_id} did it is what the ledger says: {self.unproved}."


def _checks(results: tuple[CheckResult, ...]) -> html.Fragment:
    """Return the checks as a table."""
    return html.table(
        ["check", "result", "question", "expected", "observed"],
        [
            (
                result.id,
                html.Verdict(result.passed),
                html.Folded(result.title, html.Sql(result.sql)),
                html.as_json(result.expected),
                html.as_json(result.observed),
            )
            for result in results
        ],
    )
