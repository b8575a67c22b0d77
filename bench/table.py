"""What the benchmark prints: figures with units, ratios, and where the runbook's time went."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bench.contest import Measured

Line = tuple[str, ...]


def comparison(plan: Measured, runbook: Measured) -> str:
    """Return both contestants side by side, with the ratios."""
    both = (plan, runbook)

    def line(title: str, shown: Callable[[Measured], str], ratio: str = "") -> Line:
        return (title, *(shown(one) for one in both), ratio)

    def faster(title: str, seconds: Callable[[Measured], float], word: str = "faster") -> Line:
        ratio = seconds(plan) / seconds(runbook)
        shown = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"
        return line(title, lambda one: _s(seconds(one)), f"{shown} × {word}")

    wal = f"{runbook.wal_bytes / plan.wal_bytes:.2f} of the plan's"
    lines = [
        ("", "plan's SQL", "runbook", "ratio"),
        faster("database work", lambda one: one.database_s),
        faster("  without the proof", lambda one: one.unproved_s),
        line("  the proof's part", lambda one: f"{one.proof_share:.0%}"),
        faster("time, whole process", lambda one: one.seconds),
        faster("longest lock", lambda one: one.locked_s, "shorter"),
        line("WAL", lambda one: mb(one.wal_bytes), wal),
        line("heap before", lambda one: mb(one.before.heap_bytes)),
        line("heap after", lambda one: mb(one.after.heap_bytes)),
        line("heap growth", lambda one: f"{one.heap_growth:+.1%}"),
        line("indexes before", lambda one: mb(one.before.index_bytes)),
        line("indexes after", lambda one: mb(one.after.index_bytes)),
        line("index growth", lambda one: f"{one.index_growth:+.1%}"),
        line("client's peak memory", lambda one: mb(one.client_peak_bytes)),
        line("client's CPU time", lambda one: _s(one.client_cpu_s)),
    ]
    if not runbook.proof_s:  # online: a part of every batch, and not to be told from it
        del lines[2:4]
    return "\n".join(_aligned(lines))


def profile(runbook: Measured) -> str:
    """Return the runbook's steps, and statements or phases, with the time that each took."""
    steps: dict[str, float] = runbook.profile["timings_ms"]
    lines: list[Line] = []
    for step, took_ms in steps.items():
        lines.append(_part(step, took_ms, runbook))
        if step == "apply":
            parts = _parts(runbook)
            lines += [_part(f"  {title}", ms, runbook) for title, ms in parts if ms >= 10]
            rest = took_ms - sum(ms for _, ms in parts)
            lines.append(_part("  ledger, commit and the rest", rest, runbook))
    start = runbook.seconds * 1000 - sum(steps.values())
    lines.append(_part("Python's start and imports", start, runbook))
    return "\n".join(_aligned(lines))


def _parts(runbook: Measured) -> list[tuple[str, float]]:
    """Return the parts of the change with their milliseconds: statements, or online, where several
    run at once, phases."""
    online = runbook.profile["online"]
    if online:
        return [(one["phase"], one["ms"]) for one in online["phases"]]
    return [(one["title"], one["duration_ms"]) for one in runbook.profile["statements"]]


def online(runbook: Measured) -> Iterator[str]:
    """Yield, of an online run, the course of its backfill and what the application noticed."""
    told = runbook.profile["online"]
    if told:
        yield "\n".join(_aligned(_backfill(told)))
    if runbook.application:
        yield "\n".join(_aligned(_application(runbook.application, told)))


def _backfill(told: dict[str, Any]) -> Iterator[Line]:
    batches: list[dict[str, Any]] = told["batches"]
    count, rows = (sum(one[name] for one in batches) for name in ("batches", "rows"))
    seconds = max((one["ended_s"] for one in batches), default=0.0)
    yield ("backfill", _s(seconds))
    yield ("batches", f"{count:,}")
    yield ("longest batch", f"{max((one['longest_ms'] for one in batches), default=0.0):,.1f} ms")
    yield ("rows updated and proved", f"{rows:,}")
    yield ("rows a second", f"{rows / seconds if seconds else 0:,.0f}")
    yield ("tries for a lock", f"{len(told['lock_tries']):,}")


def _application(application: dict[str, Any], told: dict[str, Any]) -> Iterator[Line]:
    yield ("application: transactions", f"{application['transactions']:,}")
    yield ("transactions a second", f"{application['per_second']:,.1f}")
    for name in ("longest", "p99", "median"):
        yield (f"{name} transaction", f"{application[f'{name}_ms']:,.1f} ms")
    yield ("longest wait for a lock, as seen", f"{told['longest_block_ms']:,.1f} ms")
    yield ("failed", f"{application['failed']:,}")
    yield ("rows written, and looked for afterwards", f"{application['written']:,}")
    yield ("lost", f"{application['lost']:,}")


def scale(rows: Sequence[int], measured: Sequence[Measured]) -> str:
    """Return runs on different numbers of rows below each other."""
    lines: list[Line] = [("rows", "database work", "longest lock", "client's peak memory")]
    lines += [
        (f"{count:,}", _s(one.database_s), _s(one.locked_s), mb(one.client_peak_bytes))
        for count, one in zip(rows, measured, strict=True)
    ]
    return "\n".join(_aligned(lines))


def mb(count: int | None) -> str:
    """Return bytes in decimal megabytes."""
    return "not known" if count is None else f"{count / 1e6:,.1f} MB"


def _part(title: str, took_ms: float, runbook: Measured) -> Line:
    seconds = took_ms / 1000
    return (title, _s(seconds), f"{seconds / runbook.seconds:.1%}")


def _s(seconds: float) -> str:
    """Return seconds; short ones, which the table's others would hide, in milliseconds."""
    return f"{seconds * 1000:,.1f} ms" if 0 < seconds < 0.1 else f"{seconds:,.2f} s"


def _aligned(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the lines with the first column flush left and the others flush right."""
    rows = list(lines)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()
