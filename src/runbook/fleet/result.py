"""What became of each target, as its own manifest says it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

BUSY = ("RunInProgress", "TableLocked")
"""Errors that say that somebody else is at the table: to be tried again."""

_NOT_DATABASE = ("parameters", "compare", "conclude", "chart")
"""Steps of a run that ask the database nothing."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One target, and what became of it; plain data, as workers return it."""

    target: str
    wave: int
    outcome: str
    """One of `Outcome`, or `left` where no run was tried."""
    exit_code: int
    message: str
    remedy: str = ""
    error: str = ""
    bundle: str = ""
    """The name of its bundle in the archive; empty where no database was reached."""
    manifest_sha256: str = ""
    run_id: str = ""
    plan_sha256: str = ""
    approved: str = ""
    """The plan that it was to have, in the spec's own schema; empty where none was named."""
    rows_before: int | None = None
    rows_after: int | None = None
    predicted: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, int] = field(default_factory=dict)
    proof: bool | None = None
    """Whether its data was proved; None where a run was not needed or did not come so far."""
    checks: int = 0
    checks_failed: tuple[str, ...] = ()
    locked_ms: float | None = None
    took_ms: float = 0.0
    """The run, from the first cell to the archived bundle."""
    database_ms: float = 0.0
    """Its steps that ask the database something."""
    attempts: int = 1
    findings: tuple[Mapping[str, str], ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether the target is migrated, and every check passed."""
        return self.exit_code == 0

    @property
    def is_busy(self) -> bool:
        """Whether somebody else was at the table."""
        return self.error in BUSY

    @classmethod
    def of(
        cls,
        content: Mapping[str, Any],
        *,
        bundle: str = "",
        manifest_sha256: str = "",
        took_ms: float | None = None,
        attempts: int = 1,
    ) -> Self:
        """Return what a run's record, or the manifest made of it, says."""
        counts, fleet = content["counts"], content["fleet"]
        before, after = counts["before"] or {}, counts["after"] or {}
        timings = content["timings"]
        spent = 1000 * sum(
            seconds
            for step, seconds in timings.items()
            if step not in _NOT_DATABASE and not step.startswith("profile: ")
        )
        return cls(
            target=fleet["target"],
            wave=fleet["wave"],
            outcome=content["outcome"],
            exit_code=content["exit_code"],
            message=content["message"],
            remedy=content["remedy"],
            error=content["error"],
            bundle=bundle,
            manifest_sha256=manifest_sha256,
            run_id=content["run_id"],
            plan_sha256=(content["plan"] or {}).get("sha256", ""),
            approved=(content["plan"] or {}).get("approved") or "",
            rows_before=before.get("total"),
            rows_after=after.get("total"),
            predicted=counts["predicted"] or {},
            categories=after.get("categories", {}),
            proof=(content["proof"] or {}).get("passed"),
            checks=len(content["checks"]),
            checks_failed=tuple(one["id"] for one in content["checks"] if not one["passed"]),
            locked_ms=content["locked_ms"],
            took_ms=spent if took_ms is None else took_ms,
            database_ms=spent,
            attempts=attempts,
            findings=tuple(content["findings"]),
        )

    @classmethod
    def left(cls, target: str, wave: int, why: str, remedy: str = "") -> Self:
        """Return that a target was not tried."""
        return cls(target=target, wave=wave, outcome=LEFT, exit_code=6, message=why, remedy=remedy)

    def content(self) -> dict[str, Any]:
        """Return it as plain data, for the manifest."""
        return asdict(self)


LEFT = "left"
"""The outcome of a target that was not tried."""
