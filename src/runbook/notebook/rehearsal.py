"""07_rehearse: the plan up, down and up again on a scratch copy. Leaves the table itself alone."""

import atexit
from contextlib import ExitStack
from dataclasses import asdict, replace

from runbook.errors import Outcome, RefusedError
from runbook.notebook.planning import Planning
from runbook.numbers import duration, span
from runbook.parameters import RehearseParameters
from runbook.record import Stage
from runbook.rehearsal import Copy, Estimate, Leg, Rehearsing, Scratch, estimate, scratch
from runbook.report import html, statements


class Rehearsal(Planning[RehearseParameters]):
    """The rehearsal of a migration."""

    step = "rehearse"
    stage = Stage.READING
    parameters_type = RehearseParameters

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._scratch = ExitStack()
        """Removes the copy when it is closed: at the end, or where the run fails."""
        atexit.register(self._scratch.close)
        self._rehearsing: Rehearsing | None = None
        self._legs: list[Leg] = []

    def find(self) -> None:
        """Show the findings. Raises `RefusedError` where there is nothing to rehearse."""
        super().find()
        with self._timed("begun"):
            begun = self.catalog.applied or self.catalog.unfinished
            if begun:
                state = "is applied already" if self.catalog.applied else "is under way"
                raise RefusedError(
                    f"{self.spec.heading} {state} here, by run {begun.run_id}: a rehearsal comes "
                    "before.",
                    "Nothing was changed. `runbook status` says where it is.",
                )

    def copy(self) -> None:
        """Make the scratch copy, and show what is in it."""
        with self._timed("copy"):
            given = self.parameters
            wanted = Scratch(
                source=self.target,
                connect=self.open,
                spec=self.spec,
                catalog=self.catalog,
                rows=given.rows,
                trust_owner_code=given.trust_owner_code,
                tell=self.tell,
            )
            copy = self._scratch.enter_context(scratch(given.scratch, wanted))
            assert self.plan is not None
            self._rehearsing = Rehearsing(
                copy=copy,
                original=self.catalog,
                options=replace(given.options, mode=self.plan.mode),
                allow_models=given.allow_models,
                limits=given.limits,
                wait_ms=given.lock_timeout_ms,
            )
            self.record.rehearsal = {
                "where": copy.where,
                "rows": copy.rows,
                "of_rows": wanted.total,
                "lacks": list(copy.lacks),
                "legs": [],
            }
            self.show(html.facts(_copied(copy, wanted.total)))

    def up(self) -> None:
        """Apply the migration to the copy; the second time, under the name `up again`."""
        name = "up again" if self._legs else "up"
        with self._timed(name):
            self._note(self._under_way.up(name))

    def down(self) -> None:
        """Take it back there, and compare with before."""
        with self._timed("down"):
            self._note(self._under_way.down())

    @property
    def _under_way(self) -> Rehearsing:
        if self._rehearsing is None:
            raise RefusedError("There is no copy yet.", "Run the cells in their order.")
        return self._rehearsing

    def _note(self, leg: Leg) -> None:
        """Note a leg and show it. Raises `RefusedError` where it failed its proof or a check."""
        self._legs.append(leg)
        again = " again" if leg.name == "up again" else ""
        record = self.record
        record.proof = dict(leg.proof)
        record.checks += [vars(replace(one, id=f"{one.id}{again}")).copy() for one in leg.checks]
        record.statements += [vars(one).copy() for one in leg.statements]
        assert record.rehearsal is not None
        measured = {name: getattr(leg, name) for name in ("name", "ms", "locked_ms", "passed")}
        record.rehearsal["legs"].append({**measured, "says": leg.says})
        passed = sum(one.passed for one in leg.checks)
        self.show(
            html.facts(
                {
                    "Took": duration(leg.ms),
                    "Longest lock": duration(leg.locked_ms),
                    "Proof": leg.says,
                    "Checks": f"{passed} of {len(leg.checks)} passed",
                }
            ),
            statements.executed(leg.statements),
        )
        if not leg.passed:
            wrong = next((one for one in leg.checks if not one.passed), None)
            why = f"check {wrong.id} observed {wrong.observed!r}" if wrong else leg.says
            raise RefusedError(
                f"The rehearsal failed on its way {leg.name}: {why}",
                "Nothing was changed but the scratch copy, which is gone. The migration itself "
                "would have ended so, too.",
            )

    def conclude(self) -> None:
        """Show what it comes to on the whole table, remove the copy, and publish the result."""
        with self._timed("conclude"):
            rehearsal = self.record.rehearsal
            assert rehearsal is not None and self.plan is not None and self._under_way.plan
            ups, downs = ([leg for leg in self._legs if leg.name.startswith(n)] for n in _WAYS)
            if not (len(ups) == 2 and downs):
                raise RefusedError("It is not rehearsed yet.", "Run the cells in their order.")
            rows, total = rehearsal["rows"], rehearsal["of_rows"]
            found = [
                estimate(n, legs, rows, total) for n, legs in zip(_WAYS, (ups, downs), strict=True)
            ]
            plan = self._under_way.plan.sha256
            same = plan == self.plan.sha256
            self.record.rehearsal = {
                **rehearsal,
                "plan_sha256": plan,
                "same_plan": same,
                "estimates": [asdict(one) for one in found],
            }
            self.show(self._times(found, total))
            self._scratch.close()
            which = "is the one" if same else "differs, as the copy does, from the one"
            self.finish(
                Outcome.SUCCEEDED,
                f"{self.spec.heading} went up, down and up again on {rows:,} of {total:,} rows, "
                f"each time proved and checked; its plan {which} that would run here.",
                "Nothing was changed, and the copy is gone.",
            )

    def _times(self, found: list[Estimate], total: int) -> html.Fragment:
        """Return what each way took, beside what it is likely to take on the whole table."""
        return html.table(
            ["", *(leg.name for leg in self._legs), f"up, {total:,} rows (estimated)", "down"],
            [
                (
                    what,
                    *(duration(getattr(leg, name)) for leg in self._legs),
                    *(span(*getattr(one, name)) for one in found),
                )
                for what, name in (("time", "ms"), ("longest lock", "locked_ms"))
            ],
        )

    def _fail(self, error: BaseException) -> None:
        self._scratch.close()
        super()._fail(error)


_WAYS = ("up", "down")


def _copied(copy: Copy, total: int) -> dict[str, object]:
    """Return what a copy is, for the reader."""
    return {
        "Copy": copy.where,
        "Rows": f"{copy.rows:,} of {total:,}",
        "Not as in the original": "; ".join(copy.lacks) or "nothing that the plan rests on",
    }
