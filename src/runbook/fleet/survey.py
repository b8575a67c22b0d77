"""The survey: which targets have the same plan, which differ and in what, which have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.fleet.worker import Surveyed
from runbook.plan.difference import plan_differences


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Targets that have one plan, each in its own schema."""

    sha256: str
    mode: str
    targets: tuple[str, ...]
    rows: int
    longest_lock_ms: float
    """As estimated, of the target where it is longest."""
    content: Mapping[str, Any]
    differences: tuple[str, ...] = ()
    """In what it is not the plan that is rolled out, where a target was seen that has that."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All targets, by what their reviews say."""

    plans: tuple[Alike, ...]
    """The plan of most targets first."""
    wanted: str
    """The hash of the plan that is rolled out."""
    applied: tuple[str, ...]
    """Targets that are migrated already."""
    blocked: Mapping[str, str]
    """Targets that cannot be migrated as they are, and why."""

    @property
    def main(self) -> Alike | None:
        """The plan that is rolled out, if a target has it."""
        return next((plan for plan in self.plans if plan.sha256 == self.wanted), None)

    @property
    def apart(self) -> tuple[Alike, ...]:
        """The other plans."""
        return tuple(plan for plan in self.plans if plan.sha256 != self.wanted)

    def apart_from_main(self, target: str) -> Alike | None:
        """Return the plan of a target, if it is another one."""
        return next((plan for plan in self.apart if target in plan.targets), None)


def surveyed(found: Sequence[Surveyed], wanted: str = "") -> Survey:
    """Return what the reviews of targets say together. `wanted` is the plan that is rolled out;
    by itself it is that of most of them."""
    by_plan: dict[str, list[Surveyed]] = {}
    for one in found:
        if one.plan:
            by_plan.setdefault(one.plan, []).append(one)
    groups = sorted(by_plan.values(), key=len, reverse=True)
    wanted = wanted or (groups[0][0].plan if groups else "")
    main = by_plan[wanted][0].content if wanted in by_plan else {}
    return Survey(
        plans=tuple(_alike(group, main) for group in groups),
        wanted=wanted,
        applied=tuple(one.target for one in found if one.is_applied),
        blocked={one.target: one.blocker for one in found if one.blocker},
    )


def _alike(group: Sequence[Surveyed], main: Mapping[str, Any]) -> Alike:
    content = group[0].content
    return Alike(
        sha256=group[0].plan,
        mode=group[0].mode,
        targets=tuple(one.target for one in group),
        rows=sum(one.rows for one in group),
        longest_lock_ms=max(one.estimated_lock_ms for one in group),
        content=content,
        differences=plan_differences(main, content) if main and content != main else (),
    )
