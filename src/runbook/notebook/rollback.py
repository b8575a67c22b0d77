"""04_rollback: take back an online run that was stopped."""

from collections.abc import Mapping
from typing import Any

from runbook.catalog import read_table, read_types
from runbook.errors import ChecksFailed, Outcome, RefusedError, RunbookError, Stopped
from runbook.facts import Unfinished
from runbook.notebook.session import Session, unfinished_run
from runbook.parameters import RollbackParameters
from runbook.plan import Plan, plan_facts
from runbook.record import PlanRecord, Stage
from runbook.report import html
from runbook.run.drift import first_difference
from runbook.run.online import RESUME, TakenBack, take_back


class Rollback(Session[RollbackParameters]):
    """Takes a run back."""

    step = "rollback"
    stage = Stage.READING
    parameters_type = RollbackParameters
    counts_rows = False  # the spec's rules may not be those of the run

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._plan: Plan | None = None
        self._taken_back: TakenBack | None = None

    def find(self) -> None:
        """Show the run that is to be taken back. Raises `RefusedError` if there is none."""
        with self._timed("find"):
            unfinished = self._unfinished()
            plan = _recorded_plan(unfinished)
            self._plan = plan
            self.record.plan = PlanRecord(
                sha256=unfinished.plan_sha256, mode=plan.mode, approved=None
            )
            self.show(
                html.facts({"Migration of the run": unfinished.migration}),
                unfinished_run(unfinished),
            )

    def _unfinished(self) -> Unfinished:
        if self.catalog.unfinished:
            return self.catalog.unfinished
        table = f"{self.spec.schema_}.{self.spec.table}"
        applied = self.catalog.applied
        raise RefusedError(
            f"There is no unfinished run on {table}"
            + (f": run {applied.run_id} was applied at {applied.applied_at}." if applied else "."),
            "Nothing was changed. Only a run that was stopped can be taken back.",
        )

    def roll_back(self) -> None:
        """Remove everything that the run added, in one short transaction."""
        with self._timed("rollback"):
            if self._plan is None:
                raise RefusedError("No run was found yet.", "Run the cells in their order.")
            with self.short_change(Stage.RESUMABLE) as journal:
                self._taken_back = take_back(
                    self.open,
                    self.catalog,
                    self._plan,
                    wait_ms=self.parameters.lock_timeout_ms,
                    max_wait_ms=self.parameters.max_wait_ms,
                    journal=journal,
                )

    def compare(self) -> None:
        """Compare the catalog with the one that was recorded before the run."""
        with self._timed("compare"):
            assert self._plan is not None
            with self.connection.transaction():
                table = read_table(self.connection, self.spec)
                types = read_types(self.connection, self.spec)
            recorded = self._plan.facts
            found = _as_recorded(plan_facts(table, types), recorded) if table else {}
            difference = "" if found == recorded else first_difference(recorded, found)
            self.record.checks = [
                {
                    "id": "catalog-as-before",
                    "title": "Columns, constraints, indexes, triggers and types are as recorded "
                    "before the run",
                    "sql": "-- the catalog's facts, as the plan's hash covers them",
                    "expected": "no difference",
                    "observed": difference or "no difference",
                    "passed": not difference,
                }
            ]
            self.show(html.facts({"Difference from before the run": difference or "none"}))

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            assert self._taken_back is not None
            if not self.record.checks[0]["passed"]:
                raise ChecksFailed(
                    f"Run {self._taken_back.run_id} is taken back, but the catalog is not as it "
                    f"was before it: {self.record.checks[0]['observed']}.",
                    "The application may have changed it meanwhile; look at the difference.",
                )
            self.finish(
                Outcome.SUCCEEDED,
                f"Run {self._taken_back.run_id}{self._of()}, which had stopped at "
                f"{self._taken_back.phase}, is taken back: the catalog is as it was before it.",
            )

    def _of(self) -> str:
        """Return which migration's run it is, where that is not the spec's."""
        assert self._plan is not None
        another = self._plan.migration != self.spec.name
        return f" of migration {self._plan.migration!r}" if another else ""

    def interrupted(self) -> RunbookError:
        if self.stage is Stage.RESUMABLE:
            return Stopped("The run was interrupted.", RESUME)
        return super().interrupted()


def _recorded_plan(unfinished: Unfinished) -> Plan:
    """Return the plan as it was recorded, whatever the spec says by now.

    Raises `RefusedError` where this version cannot read it.
    """
    try:
        return Plan.of(unfinished.plan)
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"The plan of run {unfinished.run_id} cannot be read by this version of the runbook.",
            "Nothing was changed. Take the run back with the version that began it.",
        ) from error


def _as_recorded(found: Any, recorded: Any) -> Any:
    """Return facts without what the record does not speak of: another version may have recorded
    less, and another text of the spec may name further types."""
    if isinstance(found, dict) and isinstance(recorded, Mapping):
        return {
            key: _as_recorded(fact, recorded[key]) for key, fact in found.items() if key in recorded
        }
    if isinstance(found, list) and isinstance(recorded, list) and len(found) == len(recorded):
        return [_as_recorded(*pair) for pair in zip(found, recorded, strict=True)]
    return found
