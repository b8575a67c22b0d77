"""The rollout: waves of targets, and the rule that stops it.

No more runs are under way than were asked for: what is begun is waited for, and nothing is begun
that a stop would have to take back.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runbook.errors import Outcome, UsageError
from runbook.fleet.cluster import Client, Window
from runbook.fleet.file import Rollout
from runbook.fleet.result import Result
from runbook.fleet.targets import Target
from runbook.fleet.worker import Task, migrate

GRACE_S = 8.0
"""How long runs that are under way are waited for once somebody interrupts the fleet."""

Tell = Callable[[str, float], None]


def waves(targets: Sequence[Target], rollout: Rollout) -> tuple[tuple[Target, ...], ...]:
    """Return the targets in waves: the canary, then each so many times larger than the one before.

    Raises `UsageError` where a canary is no target.
    """
    by_name = {one.name: one for one in targets}
    if isinstance(rollout.canary, int):
        first = list(targets[: rollout.canary])
    else:
        for name in rollout.canary:
            if name not in by_name:
                raise UsageError(
                    f"The canary {name!r} is no target of the fleet.",
                    "Correct `canary` in the fleet's file; the targets are "
                    f"{', '.join(list(by_name)[:5])}{' …' if len(by_name) > 5 else ''}.",
                )
        first = [by_name[name] for name in rollout.canary]
    rest = [one for one in targets if one not in first]
    found, size = [tuple(first)], max(1, len(first))
    while rest:
        size *= rollout.growth
        found.append(tuple(rest[:size]))
        rest = rest[size:]
    return tuple(found)


@dataclass
class Course:
    """How far a rollout has come."""

    results: dict[str, Result] = field(default_factory=dict)
    """By target; of one that was tried again, the last."""
    stopped: str = ""
    """Why no further target is begun."""
    reached: int = 0
    """The last wave that was begun, from 1."""

    def note(self, result: Result, max_failures: int) -> None:
        """Note what became of a target, and whether that stops the rollout."""
        self.results[result.target] = result
        failed = [one for one in self.results.values() if not one.is_done]
        if result.exit_code == Outcome.CHECK_FAILED.exit_code:
            self.stopped = (
                f"A check failed on {result.target}, in wave {result.wave}: {result.message}"
            )
        elif not self.stopped and result.wave == 1 and not result.is_done:
            self.stopped = f"The canary {result.target} failed: {result.message}"
        elif not self.stopped and len(failed) > max_failures:
            self.stopped = (
                f"{len(failed)} {'target' if len(failed) == 1 else 'targets'} failed and "
                f"max_failures is {max_failures}, the last {result.target}, in wave "
                f"{result.wave}: {result.message}"
            )


@dataclass(kw_only=True)
class Rolling:
    """A rollout under way."""

    client: Client
    rollout: Rollout
    concurrency: int
    course: Course
    total: int
    """How many targets there are in all waves."""
    tell: Tell

    def through(self, tasks: Sequence[Sequence[Task]]) -> None:
        """Run the tasks wave by wave until all are done, or the rule says stop.

        A target that is busy is tried again at its wave's end. On KeyboardInterrupt what is under
        way is waited for, for `GRACE_S`, and the interrupt raised again.
        """
        for wave in tasks:
            if wave and not self.course.stopped:
                self.course.reached = wave[0].wave
                self._wave(wave)

    def _wave(self, wave: Sequence[Task]) -> None:
        waiting = self._run(wave, is_last=not self.rollout.retries)
        for attempt in range(1, self.rollout.retries + 1):
            if not waiting or self.course.stopped:
                break
            self.tell(f"{len(waiting)} targets are busy: waiting", self._share)
            time.sleep(self.rollout.retry_after_s)
            again = [replace(task, attempts=task.attempts + 1) for task in waiting]
            waiting = self._run(again, is_last=attempt == self.rollout.retries)
        for task in waiting:
            left = Result.left(task.target.name, task.wave, "It was busy, and the fleet stopped.")
            self.course.results.setdefault(task.target.name, left)

    def _run(self, tasks: Sequence[Task], *, is_last: bool) -> list[Task]:
        """Run tasks; return those whose target was busy, unless this was the last try."""
        waiting, busy = deque(tasks), []
        window = Window(self.client, self.concurrency)
        try:
            while window or (waiting and not self.course.stopped):
                while waiting and window.has_room and not self.course.stopped:
                    task = waiting.popleft()
                    window.begin(migrate, task, key=_key(task))
                task, found = window.next()
                result = _result(task, found)
                if result.is_busy and not is_last:
                    busy.append(task)
                else:
                    self._note(result)
        except KeyboardInterrupt:
            self.course.stopped = "The rollout was interrupted."
            for task, found in window.rest(GRACE_S):
                self._note(_result(task, found))
            for task in window.under_way:
                self._note(_unknown(task, "It was under way when the rollout was interrupted."))
            raise
        return busy

    def _note(self, result: Result) -> None:
        self.course.note(result, self.rollout.max_failures)
        failed = sum(not one.is_done for one in self.course.results.values())
        told = f"wave {self.course.reached}: {len(self.course.results):,} of {self.total:,} targets"
        self.tell(f"{told}, {failed:,} failed" if failed else told, self._share)

    @property
    def _share(self) -> float:
        return len(self.course.results) / self.total if self.total else 1.0


def _key(task: Task) -> str:
    """Return what Dask calls a task; one that is tried again is another one."""
    return f"migrate-{task.fleet_id}-{task.target.name}-{task.attempts}"


def _result(task: Task, found: Any) -> Result:
    """Return a task's result; of one whose workers died again and again, that it is not known."""
    if isinstance(found, Result):
        return found
    why = f"Its worker ended before it told the outcome ({type(found).__name__})."
    return _unknown(task, why)


def _unknown(task: Task, why: str) -> Result:
    """Return that it is not known how a run ended that was begun."""
    return Result(
        target=task.target.name,
        wave=task.wave,
        outcome=Outcome.ERROR.value,
        exit_code=Outcome.ERROR.exit_code,
        message=why,
        remedy="What was not committed, the server rolls back. Resume the fleet: it looks first.",
        error="WorkerLost",
        attempts=task.attempts,
    )
