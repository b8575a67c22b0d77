"""The charts. Categories: rows before, as predicted, and after, one group of bars per category.
Phases: when each of an online run began, and how long it took. Batches: how fast it went, and how
long they took.

The colours are of Okabe and Ito's palette, told apart by the colour-blind; hatching tells them
apart in print without colours.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import chdir, nullcontext
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

from IPython.display import Image

from runbook.numbers import duration, share
from runbook.run.online import Sample
from runbook.visible import visible

# Before any other settings matplotlib reads those in the current folder, once, as it is loaded.
# They may be a stranger's, and could hide what a chart says.
with chdir(Path(__file__).parent) if Path("matplotlibrc").exists() else nullcontext():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

_BEFORE, _PREDICTED, _AFTER = "#999999", "#56B4E9", "#0072B2"
_COLOURS = ((_PREDICTED, "//"), (_AFTER, ""), ("#E69F00", ".."))
"""Colour and hatching of each series of a category chart."""
_DRAWING = Lock()
"""Held while matplotlib draws: it is not made for threads."""
_DPI = 160
_WIDTH_INCHES = 8.0
_TITLE_CHARACTERS = 60
_NAME_CHARACTERS = 22


def category_chart(heading: str, before: int, series: Mapping[str, Mapping[str, int]]) -> Image:
    """Return the chart as a PNG with alternative text, largest category on top.

    `series` are the counts to compare, at most as many as there are `_COLOURS`, each under the
    name that the legend gives it; the first decides the order. A label that only a later one has
    stands there with none.
    """
    heading = visible(heading)
    series = {
        name: {visible(label): rows for label, rows in counted.items()}
        for name, counted in series.items()
    }
    labels = _in_order(series)
    title = textwrap.fill(heading, _TITLE_CHARACTERS)
    names = [textwrap.fill(label, _NAME_CHARACTERS) for label in labels]
    lines = title.count("\n") + max((name.count("\n") for name in names), default=0) * len(labels)
    more = 0.22 * max(0, len(series) - 2) * len(labels)
    figure = Figure(
        figsize=(_WIDTH_INCHES, 1.6 + 0.62 * (len(labels) + 1) + 0.2 * lines + more),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw_series(axes, labels, before, series)
    top = axes.barh(
        [len(labels)],
        [before],
        height=0.6,
        color=_BEFORE,
        label="before: not classified",
    )
    axes.bar_label(top, labels=[f"{before:,} rows"], padding=4)
    axes.set_yticks([*range(len(labels)), len(labels)], [*names, "before"], parse_math=False)
    longest = max([before, 1, *(rows for counts in series.values() for rows in counts.values())])
    axes.set_xlim(0, longest * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")
    axes.set_xlabel("rows")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _image(figure, _alternative(heading, before, series))


def _in_order(series: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return all labels, the largest last, since that one is drawn on top; equal ones stand in the
    spec's order from the top."""
    first = next(iter(series.values()))
    known = dict.fromkeys(label for counts in series.values() for label in counts)
    return sorted(known, key=lambda label: first.get(label, 0), reverse=True)[::-1]


def _draw_series(
    axes: Any, labels: list[str], before: int, series: Mapping[str, Mapping[str, int]]
) -> None:
    """Draw the bars of each series beside those of the others, with their figures."""
    height = 0.6 if len(series) == 1 else 0.76 / len(series)
    for n, ((name, counts), (colour, hatch)) in enumerate(
        zip(series.items(), _COLOURS[: len(series)], strict=True)
    ):
        offset = height * ((len(series) - 1) / 2 - n)
        bars = axes.barh(
            [place + offset for place in range(len(labels))],
            [counts.get(label, 0) for label in labels],
            height=height,
            label=textwrap.fill(name, _NAME_CHARACTERS),
            color=colour,
            hatch=hatch,
            edgecolor="white",
        )
        shown = [_count(counts.get(label, 0), before) for label in labels]
        axes.bar_label(bars, labels=shown, padding=4)


_MULTIPLES = 24
_COLUMNS = 4


def multiples_chart(found: Mapping[str, Mapping[str, int]]) -> Image:
    """Return the shares of the categories of each of many tables, one small chart each, on the same
    scale. Of very many, those that are least like all of them together."""
    labels = [*dict.fromkeys(label for counts in found.values() for label in counts)]
    whole = {label: sum(one.get(label, 0) for one in found.values()) for label in labels}
    overall = _shares(whole, labels)

    def unlikeness(name: str) -> float:
        own = _shares(found[name], labels)
        return sum(abs(mine - all_) for mine, all_ in zip(own, overall, strict=True))

    shown = list(found)
    if len(found) > _MULTIPLES:
        shown = sorted(found, key=unlikeness, reverse=True)[:_MULTIPLES]
    lines = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    figure = Figure(
        figsize=(_WIDTH_INCHES, 0.9 + lines * (0.55 + 0.17 * len(labels))), layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    places = list(range(len(labels)))
    for axes, name in zip(grid.flat, shown, strict=False):
        axes.barh(places, _shares(found[name], labels), color=_AFTER, height=0.7)
        axes.plot(overall, places, "|", color="black", markersize=7)
        title = textwrap.shorten(name, _NAME_CHARACTERS, placeholder="…")
        axes.set_title(f"{title}\n{sum(found[name].values()):,} rows", fontsize=8, parse_math=False)
        axes.set_yticks(places, labels, fontsize=7, parse_math=False)
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    grid[0][0].invert_yaxis()
    grid[0][0].set_xlim(0, 100)
    which = f"the {len(shown)} least like all" if len(shown) < len(found) else "each target"
    figure.suptitle(
        f"Categories of {which} (% of its rows; marks: all {len(found):,} targets)",
        x=0.01,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )
    told = "; ".join(
        f"{name} "
        + ", ".join(
            f"{label} {share(found[name].get(label, 0), sum(found[name].values()))}"
            for label in labels
        )
        for name in shown
    )
    return _image(figure, f"Small bar charts of the categories' shares: {told}.")


def _shares(counts: Mapping[str, int], labels: Sequence[str]) -> list[float]:
    """Return the shares of labels in per cent."""
    whole = sum(counts.values()) or 1
    return [100 * counts.get(label, 0) / whole for label in labels]


def phase_chart(phases: Sequence[Mapping[str, Any]]) -> Image:
    """Return the phases of an online run as bars over time, the first on top."""
    starts = [datetime.fromisoformat(one["started_at"]).timestamp() for one in phases]
    begins = [start - starts[0] for start in starts]
    widths = [(one["ms"] or 0.0) / 1000 for one in phases]
    whole = max(begin + width for begin, width in zip(begins, widths, strict=True)) or 1.0
    figure = Figure(figsize=(_WIDTH_INCHES, 0.8 + 0.32 * len(phases)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = list(range(len(phases)))
    # The shortest must be seen, too.
    seen = [max(width, whole / 400) for width in widths]
    axes.barh(places, seen, left=begins, height=0.6, color=_AFTER)
    for place, begin, width, one in zip(places, begins, seen, phases, strict=True):
        took = "did not end" if one["ms"] is None else duration(one["ms"])
        axes.annotate(took, (begin + width, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [one["phase"] for one in phases], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, whole * 1.15)
    axes.xaxis.set_major_formatter(lambda amount, _: f"{amount:,g}")
    axes.set_xlabel("seconds since the run began")
    axes.spines[["top", "right"]].set_visible(False)
    said = (f"{one['phase']} {duration(one['ms'] or 0.0)}" for one in phases)
    return _image(figure, f"Bar chart of the phases over time: {', '.join(said)}.")


def batch_chart(samples: Sequence[Sample]) -> Image:
    """Return the course of a backfill: blocks and rows a second above, how long batches took
    below."""
    figure = Figure(figsize=(_WIDTH_INCHES, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    speed, length = figure.subplots(2, 1, sharex=True)
    ends = [0.0, *(sample.ended_s for sample in samples)]
    stretches = [max(after - before, 1e-3) for before, after in pairwise(ends)]
    for name, amounts, colour, style in (
        ("blocks read", [s.blocks for s in samples], _BEFORE, "--"),
        ("rows updated", [s.rows for s in samples], _AFTER, "-"),
    ):
        rates = [amount / s for amount, s in zip(amounts, stretches, strict=True)]
        speed.stairs(rates, ends, label=name, color=colour, linestyle=style, linewidth=1.6)
    speed.set_ylabel("per second")
    length.stairs(
        [s.longest_ms for s in samples], ends, color=_PREDICTED, fill=True, label="longest batch"
    )
    length.set_ylabel("milliseconds")
    length.set_xlabel("seconds since the backfill began")
    for axes in (speed, length):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda amount, _: f"{amount:,.0f}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    batches, rows = sum(s.batches for s in samples), sum(s.rows for s in samples)
    longest = max(s.longest_ms for s in samples)
    return _image(
        figure,
        f"Line chart of the backfill: {batches:,} batches updated {rows:,} rows in "
        f"{ends[-1]:,.1f} seconds, the longest batch took {longest:,.0f} milliseconds.",
    )


def _image(figure: Figure, alternative: str) -> Image:
    """Return a figure as a PNG, the same bytes for the same figure."""
    png = io.BytesIO()
    with _DRAWING:
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return Image(data=png.getvalue(), format="png", width=int(_WIDTH_INCHES * 100), alt=alternative)


def _count(rows: int, total: int) -> str:
    return f"{rows:,} ({share(rows, total)})"


def _alternative(heading: str, before: int, series: Mapping[str, Mapping[str, int]]) -> str:
    """Return what the chart says, in words."""
    parts = []
    for label in reversed(_in_order(series)):
        told = [f"{counts.get(label, 0):,} {name}" for name, counts in series.items()]
        parts.append(f"{label} {' and '.join(told)}")
    return f"Bar chart, {heading}: {before:,} rows before; {'; '.join(parts)}."
