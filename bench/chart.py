"""The chart of what each contestant takes, by the number of rows."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.contest import Measured
from bench.results import Setup

_STYLES = (("#999999", "s"), ("#E69F00", "D"), ("#0072B2", "o"), ("#009E73", "^"))
"""Colour (of Okabe and Ito's palette, told apart by the colour-blind) and marker, a contestant."""


def draw(
    counts: Sequence[int], found: Sequence[Sequence[Measured]], setup: Setup, path: Path
) -> None:
    """Draw time, longest lock and client's memory against the rows; both axes are logarithmic, so
    that what grows as the rows do is a line of slope 1. The format is that of the path's ending."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{setup.distribution.capitalize()} distribution, PostgreSQL {setup.server_version}"
    )
    time, lock, memory = figure.subplots(1, 3)
    for (colour, marker), measured in zip(_STYLES, found, strict=False):
        look = {"color": colour, "marker": marker, "label": measured[0].name}
        time.plot(counts, [one.database_s for one in measured], **look)
        lock.plot(counts, [one.locked_s * 1000 for one in measured], **look)
        memory.plot(counts, [(one.peak_bytes or 0) / 1e6 for one in measured], **look)
    _label(time, counts, "Database work (s)")
    _label(lock, counts, "Longest lock (ms)")
    _label(memory, counts, "Client's peak memory (MB)")
    memory.set_yscale("linear")
    memory.set_ylim(bottom=0)
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=len(found))
    with mpl.rc_context({"svg.hashsalt": "runbook", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=130)
    print(f"drawn in {path}")


def _label(axes: Axes, counts: Sequence[int], title: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel("rows")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{rows:,}" for rows in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(visible=True, alpha=0.3)
