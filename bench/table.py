"""What the benchmark prints: figures with units, ratios, and where the runbook's time went."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bench.contest import Measured

Line = tuple[str, ...]

SHOWN_MS = 10.0
"""Steps that took less are not shown."""


def comparison(measured: Sequence[Measured]) -> str:
    """Return all contestants side by side, with the ratios to those that are not the runbook. The
    first is the plan's SQL."""
    plan = measured[0]

    def line(title: str, shown: Callable[[Measured], str]) -> Line:
        return (title, *map(shown, measured))

    def ratio(other: Measured) -> Line:
        return line(f"  {other.name} ÷ it", lambda one: f"{other.database_s / one.database_s:.2f}")

    lines = [
        line("", lambda one: one.name),
        line("database work", lambda one: _s(one.database_s)),
        *(ratio(one) for one in measured if not one.profile),
        line("  whole process", lambda one: _s(one.seconds)),
        line("longest lock", lambda one: _s(one.locked_s)),
        line(f"  {plan.name} ÷ it", lambda one: f"{plan.locked_s / one.locked_s:,.1f}"),
        line("WAL", lambda one: mb(one.wal_bytes)),
        line(f"  of {plan.name}", lambda one: f"{one.wal_bytes / plan.wal_bytes:.2f}"),
        line(f"heap, {mb(plan.before.heap_bytes)}", lambda one: f"{one.heap_growth:+.1%}"),
        line(f"indexes, {mb(plan.before.index_bytes)}", lambda one: f"{one.index_growth:+.1%}"),
        line("client's CPU time", lambda one: _s(one.client_cpu_s)),
        line("client's peak memory", lambda one: mb(one.peak_bytes)),
    ]
    return "\n".join(_aligned(lines))


def profile(runbook: Measured) -> str:
    """Return the runbook's steps, and statements or phases, with the time that each took."""
    steps = runbook.steps()
    lines = [_part(title, ms, runbook) for title, ms in steps.items() if ms >= SHOWN_MS]
    start = runbook.seconds * 1000 - runbook.database_s * 1000
    lines.append(_part("Python's start and imports", start, runbook))
    return "\n".join(_aligned(lines))


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


def scale(small: Measured, large: Measured, times: int) -> str:
    """Return each step on few rows and on so many times as many, and how it grew."""
    lines: list[Line] = [("", "few rows", f"{times} × as many", "grew")]
    before, after = small.steps(), large.steps()
    lines += [
        (title, _s(before[title] / 1000), _s(ms / 1000), f"{ms / before[title]:.1f} ×")
        for title, ms in after.items()
        if ms >= SHOWN_MS and before.get(title)
    ]
    whole = large.database_s / small.database_s
    lines.append(("all of it", _s(small.database_s), _s(large.database_s), f"{whole:.1f} ×"))
    lines.append(("client's peak memory", mb(small.peak_bytes), mb(large.peak_bytes), ""))
    return "\n".join(_aligned(lines))


def growth(counts: Sequence[int], found: Sequence[Sequence[Measured]]) -> str:
    """Return what each contestant took, by the number of rows."""
    lines: list[Line] = [("rows", *(f"{rows:,}" for rows in counts))]
    figures: dict[str, Callable[[Measured], str]] = {
        "database work": lambda one: _s(one.database_s),
        "longest lock": lambda one: _s(one.locked_s),
        "WAL": lambda one: mb(one.wal_bytes),
        "client's peak memory": lambda one: mb(one.peak_bytes),
    }
    for measured in found:
        lines.append((measured[0].name, *("" for _ in counts)))
        lines += [(f"  {name}", *map(shown, measured)) for name, shown in figures.items()]
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
