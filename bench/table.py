"""What the benchmark prints: figures with units, ratios, and where the runbook's time went."""

from collections.abc import Iterable, Iterator
from typing import Any

from bench.contest import Measured


def comparison(plan: Measured, runbook: Measured) -> str:
    """Return both contestants side by side, with the ratios."""
    return "\n".join(
        _aligned(
            [
                ("", "plan's SQL", "runbook", "ratio"),
                (
                    "database work",
                    _s(plan.database_s),
                    _s(runbook.database_s),
                    f"{plan.database_s / runbook.database_s:.1f} × faster",
                ),
                (
                    "  without the proof",
                    _s(plan.unproved_s),
                    _s(runbook.unproved_s),
                    f"{plan.unproved_s / runbook.unproved_s:.1f} × faster",
                ),
                (
                    "time, whole process",
                    _s(plan.seconds),
                    _s(runbook.seconds),
                    f"{plan.seconds / runbook.seconds:.1f} × faster",
                ),
                (
                    "exclusive lock held",
                    _s(plan.locked_s),
                    _s(runbook.locked_s),
                    f"{plan.locked_s / runbook.locked_s:.1f} × shorter",
                ),
                (
                    "WAL",
                    mb(plan.wal_bytes),
                    mb(runbook.wal_bytes),
                    f"{runbook.wal_bytes / plan.wal_bytes:.2f} of the plan's",
                ),
                ("heap before", mb(plan.before.heap_bytes), mb(runbook.before.heap_bytes), ""),
                ("heap after", mb(plan.after.heap_bytes), mb(runbook.after.heap_bytes), ""),
                _growth("heap growth", plan.heap_growth, runbook.heap_growth),
                (
                    "indexes before",
                    mb(plan.before.index_bytes),
                    mb(runbook.before.index_bytes),
                    "",
                ),
                ("indexes after", mb(plan.after.index_bytes), mb(runbook.after.index_bytes), ""),
                _growth("index growth", plan.index_growth, runbook.index_growth),
                (
                    "client's peak memory",
                    mb(plan.client_peak_bytes),
                    mb(runbook.client_peak_bytes),
                    "",
                ),
                ("client's CPU time", _s(plan.client_cpu_s), _s(runbook.client_cpu_s), ""),
            ]
        )
    )


def profile(runbook: Measured) -> str:
    """Return the runbook's steps and statements with the time that each took."""
    steps: dict[str, float] = runbook.profile["timings_ms"]
    statements: list[dict[str, Any]] = runbook.profile["statements"]
    lines: list[tuple[str, str, str]] = []
    for step, took_ms in steps.items():
        lines.append((step, _s(took_ms / 1000), _share(took_ms / 1000, runbook.seconds)))
        if step == "apply":
            known = 0.0
            for one in statements:
                known += one["duration_ms"]
                if one["duration_ms"] >= 10:
                    seconds = one["duration_ms"] / 1000
                    lines.append(
                        (f"  {one['title']}", _s(seconds), _share(seconds, runbook.seconds))
                    )
            rest = (took_ms - known) / 1000
            lines.append(("  ledger, commit and the rest", _s(rest), _share(rest, runbook.seconds)))
    start = runbook.seconds - sum(steps.values()) / 1000
    lines.append(("Python's start and imports", _s(start), _share(start, runbook.seconds)))
    return "\n".join(_aligned(lines))


def mb(count: int | None) -> str:
    """Return bytes in decimal megabytes."""
    return "not known" if count is None else f"{count / 1e6:,.1f} MB"


def _growth(title: str, plan: float, runbook: float) -> tuple[str, str, str, str]:
    return (title, f"{plan:+.1%}", f"{runbook:+.1%}", "")


def _s(seconds: float) -> str:
    return f"{seconds:,.2f} s"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}"


def _aligned(lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines with the first column flush left and the others flush right."""
    rows = list(lines)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()
