"""04_rollback: take back a recorded run, or an online run that was stopped."""

from typing import Protocol

import psycopg

from runbook.catalog.ledger import read_recorded
from runbook.errors import ChecksFailed, Outcome, RefusedError, RunbookError, Stopped
from runbook.facts import Recorded
from runbook.notebook.applied_run import AppliedRun
from runbook.notebook.session import Session
from runbook.notebook.stopped_run import StoppedRun
from runbook.parameters import RollbackParameters
from runbook.record import Stage, after_commit
from runbook.run.online import RESUME
from runbook.run.wayback.obstacles import ROLLBACK_ACTS


class Way(Protocol):
    """How a run is taken back, by what it is: step by step, as the notebook goes."""

    def find(self) -> None:
        """Show the run."""

    def examine(self) -> None:
        """Show what speaks against it, all at once; raise `BlockedError` if anything does."""

    def fingerprint(self) -> None:
        """Count and fingerprint the rows."""

    def roll_back(self) -> None:
        """Take it back in one short transaction."""

    def compare(self) -> None:
        """Compare rows and catalog with those of before."""

    def judge(self) -> tuple[str, str]:
        """Return how it ended, and what is left to do. Raises `ChecksFailed` if a check did."""


class Rollback(Session[RollbackParameters]):
    """Takes a run back."""

    step = "rollback"
    acts = ROLLBACK_ACTS
    stage = Stage.READING
    parameters_type = RollbackParameters
    counts_rows = False  # the spec's rules may not be those of the run

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._found: Way | None = None

    @property
    def named_keys(self) -> str:
        return self.parameters.trusted_keys

    def find(self) -> None:
        """Show the run that is to be taken back. Raises `RefusedError` if there is none."""
        with self._timed("find"):
            self._found = self._way_back()
            self._found.find()

    def _way_back(self) -> Way:
        if self.catalog.unfinished:
            return StoppedRun(self, self.catalog.unfinished)
        recorded = read_recorded(self.connection, self.parameters.ledger_schema, self.spec)
        if recorded is None or recorded.taken_back_at:
            raise RefusedError(
                f"There is no unfinished run on {self.spec.schema_}.{self.spec.table}, and no "
                f"applied one: {self._none(recorded)}.",
                "Nothing was changed. "
                + (
                    "`runbook migrate` applies it again."
                    if recorded
                    else "Check the database, the spec and the ledger schema, if you expected one."
                ),
            )
        return AppliedRun(self, recorded)

    def _none(self, recorded: Recorded | None) -> str:
        """Return why there is no applied run, in words."""
        if recorded is None:
            place = f"{self.parameters.ledger_schema}.ledger"
            return f"no run of migration {self.spec.name!r} is recorded in {place}"
        return (
            f"run {recorded.entry.run_id} was taken back at {recorded.taken_back_at} by "
            f"{recorded.taken_back_by}"
        )

    @property
    def _way(self) -> Way:
        if self._found is None:
            raise RefusedError("No run was found yet.", "Run the cells in their order.")
        return self._found

    def examine(self) -> None:
        """Show what speaks against it, and which categories would be lost."""
        with self._timed("examine"):
            self._way.examine()

    def fingerprint(self) -> None:
        """Count and fingerprint the rows before anything is changed."""
        with self._timed("fingerprint"):
            self._way.fingerprint()

    def roll_back(self) -> None:
        """Undo everything that the run did, in one short transaction."""
        with self._timed("rollback"):
            self._way.roll_back()

    def compare(self) -> None:
        """Compare rows and catalog with those of before."""
        with self._timed("compare"):
            self._way.compare()

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            self.finish(Outcome.SUCCEEDED, *self._way.judge())

    def database_failure(self, error: psycopg.Error) -> RunbookError:
        failure = super().database_failure(error)
        if self.stage is not Stage.CHANGED:
            return failure
        return ChecksFailed(failure.message, after_commit(self.step))

    def interrupted(self) -> RunbookError:
        if self.stage is Stage.RESUMABLE:
            return Stopped("The run was interrupted.", RESUME)
        return super().interrupted()
