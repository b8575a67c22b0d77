"""What a run needs in disk space and time under a lock."""

from collections.abc import Iterator, Sequence

from runbook.facts import Catalog
from runbook.numbers import size
from runbook.operations.base import blocker, note, warning
from runbook.plan.build import Step, estimated_lock_ms
from runbook.plan.model import Mode, Options
from runbook.spec import Spec
from runbook.vocabulary import Finding

WAL_SHARE = 2
"""What is written comes once more as WAL, at most: full pages after a checkpoint (docs, 30.5)."""

UNKNOWN_BYTES = 1 << 30
"""From this need on it is worth a look at a disk that cannot be seen from here."""


def needed_bytes(course: Sequence[Step]) -> int:
    """Return what the disk must have free for a run, WAL included, at most."""
    return WAL_SHARE * sum(step.operation.needed_bytes(step.scope) for step in course)


def space_findings(
    spec: Spec, catalog: Catalog, course: list[Step], mode: Mode, options: Options
) -> Iterator[Finding]:
    """Yield whether disk and lock budget suffice for the mode."""
    object_ = f"{spec.schema_}.{spec.table}"
    locked_ms = estimated_lock_ms(course, spec, options)
    if mode == "atomic" and locked_ms > options.lock_budget_ms:
        yield warning(
            "lock-over-budget",
            object_,
            f"The table would be locked for about {locked_ms / 1000:,.1f} s, and the lock budget "
            f"is {options.lock_budget_ms / 1000:,.1f} s.",
            "Choose mode `online` (or `auto`), or a time at which nobody uses the table.",
        )
    if catalog.surroundings is None:
        return
    needed, free = needed_bytes(course), catalog.surroundings.free_bytes
    if free is not None and free < 2 * needed:
        yield (blocker if free < needed else warning)(
            "disk-short",
            object_,
            f"The migration writes up to {size(needed)}, WAL included, and {size(free)} are free "
            "on the data directory's disk.",
            "Make room first, or move the data directory to a larger disk.",
        )
    elif free is None and needed >= UNKNOWN_BYTES:
        yield note(
            "disk-unknown",
            object_,
            f"The migration writes up to {size(needed)}, WAL included; what is free cannot be "
            "seen from here.",
            "Look at the server's disk, and at that of its WAL and its archive.",
        )
