"""The command `python -m bench.chart RESULT PATH`: what `--scale` measured, as a chart by rows."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

_STYLES = {
    "plan's SQL": ("#999999", "s"),
    "floor": ("#E69F00", "D"),
    "atomic": ("#0072B2", "o"),
    "online, idle": ("#009E73", "^"),
}
"""Colour (of Okabe and Ito's palette, told apart by the colour-blind) and marker, a contestant."""


def main() -> int:
    """Draw a result's chart; the format is that of the path's ending."""
    parser = argparse.ArgumentParser(prog="python -m bench.chart", description=__doc__)
    parser.add_argument("result", type=Path, help="a file of bench/results that --scale made")
    parser.add_argument("path", type=Path, help="where to draw: .svg or .png")
    given = parser.parse_args()
    content = json.loads(given.result.read_text("utf-8"))
    if "scale" not in content:
        parser.error(f"{given.result} is no result of --scale")
    figure = _drawn(content["setup"], content["scale"])
    with mpl.rc_context({"svg.hashsalt": "runbook", "svg.fonttype": "none"}):
        figure.savefig(given.path, dpi=130, metadata={"Date": None})
    print(f"drawn in {given.path}")
    return 0


def _drawn(setup: Mapping[str, Any], scale: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return time, longest lock and client's memory against the rows; axes are logarithmic, so that
    what grows as the rows do is a line of slope 1."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    version = setup["server_version"].partition(" ")[0]
    settings = ", ".join(f"{name} {amount}" for name, amount in setup["settings"].items())
    figure.suptitle(
        f"{setup['distribution'].capitalize()} distribution, PostgreSQL {version}, {settings}"
    )
    axes = figure.subplots(1, 3)
    counts = [int(rows) for rows in scale]
    for contestant in zip(*scale.values(), strict=True):
        name = contestant[0]["name"]
        colour, marker = _STYLES[name]
        drawn = (
            [one["database_s"] for one in contestant],
            [one["locked_s"] * 1000 for one in contestant],
            [one["peak_bytes"] / 1e6 for one in contestant],
        )
        for place, amounts in zip(axes, drawn, strict=True):
            place.plot(counts, amounts, color=colour, marker=marker, label=name)
    titles = ("Database work (s)", "Longest lock (ms)", "Client's peak memory (MB)")
    for place, title in zip(axes, titles, strict=True):
        _label(place, counts, title)
    axes[2].set_yscale("linear")
    axes[2].set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _label(axes: Axes, counts: Sequence[int], title: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel("rows")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{rows:,}" for rows in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda amount, _: f"{amount:,.0f}" if amount >= 1 else f"{amount:g}")
    )
    axes.grid(visible=True, alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
