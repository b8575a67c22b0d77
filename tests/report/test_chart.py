"""The category chart: a picture that is cut nowhere, and the same in words."""

import io
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from runbook.report import chart

Counts = dict[str, int]

SAMPLE = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1, "FAILED": 0}
TWELVE = {f"CATEGORY_{n:02d}": 12345 * n for n in range(12)}
LONG = {f"{'W' * 61}{n:02d}": 1000 * (n + 1) for n in range(5)}

CASES: dict[str, tuple[str, int, dict[str, Counts]]] = {
    "prediction alone": ("Predicted categories", 4052, {"predicted": SAMPLE}),
    "before and after": ("EnrichmentLog → LlamaLog", 4052, {"predicted": SAMPLE, "after": SAMPLE}),
    "three readings": (
        "Predicted categories",
        4052,
        {
            "predicted": SAMPLE,
            "with FAILED first": SAMPLE | {"FAILED": 160, "ENRICHED": 3610},
            "with CORRECTED first": SAMPLE,
        },
    ),
    "no rows": (
        "Empty",
        0,
        {"predicted": dict.fromkeys(SAMPLE, 0), "after": dict.fromkeys(SAMPLE, 0)},
    ),
    "one label": ("One", 10, {"predicted": {"ONLY": 10}, "after": {"ONLY": 10}}),
    "one row": ("One", 1, {"predicted": {"ONLY": 1, "NONE": 0}, "after": {"ONLY": 1, "NONE": 0}}),
    "12 labels": ("Twelve", sum(TWELVE.values()), {"predicted": TWELVE, "after": TWELVE}),
    "labels of 63 characters": ("Long", 15_000, {"predicted": LONG, "after": LONG}),
    "all of it long": (
        "From one thing to quite another " * 4,
        15_000,
        {"predicted": LONG, "after": LONG},
    ),
    "a long heading": (
        "From one thing to quite another " * 6,
        4052,
        {"predicted": SAMPLE, "after": SAMPLE},
    ),
    "four thousand million rows": (
        "Many",
        4_052_000_000,
        {"predicted": {"A": 4_051_999_999, "B": 1}},
    ),
    "a label that nobody predicted": (
        "Differs",
        10,
        {"predicted": {"A": 10}, "after": {"A": 7, "OTHER": 3}},
    ),
    "signs of a formula": (
        "$5 → $6",
        10,
        {"predicted": {"a$b$c": 10, r"$\x$": 0}, "after": {"a$b$c": 10}},
    ),
}

every_case = pytest.mark.parametrize("case", CASES)


class _Kept(Figure):
    """A figure that can be looked at after it was drawn."""

    made: ClassVar[list[Figure]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _Kept.made.append(self)


@cache
def drawn(case: str) -> tuple[Image, Figure]:
    """Return a case's picture, and the figure that it was made of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chart, "Figure", _Kept)
        image = chart.category_chart(*CASES[case])
    figure = _Kept.made.pop()
    # As it lies in the picture: saving it has set the resolution back.
    figure.set_dpi(160)
    figure.canvas.draw()
    return image, figure


def pixels(case: str) -> "np.ndarray[Any, Any]":
    """Return a case's picture as rows of red, green and blue."""
    found: np.ndarray[Any, Any] = imread(io.BytesIO(drawn(case)[0].data), format="png")
    return found[:, :, :3]


def texts(figure: Figure) -> list[Text]:
    """Return every text that is shown."""
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = axes.xaxis.get_major_ticks()
    unseen = [tick.label1 for tick in ticks if not low <= tick.get_loc() <= high]
    found = figure.findobj(Text, include_self=False)
    return [
        text
        for text in found
        if isinstance(text, Text) and text.get_text().strip() and text not in unseen
    ]


@every_case
def test_it_is_a_png_of_the_size_that_it_is_shown_in(case: str) -> None:
    image, _ = drawn(case)
    assert image.data.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in image.data[-12:]
    height, width, _ = pixels(case).shape
    assert (width, image.width) == (1280, 800)
    assert 200 <= height <= 2 * width


@every_case
def test_no_ink_touches_the_edge_of_the_picture(case: str) -> None:
    shown = pixels(case)
    edges = {"left": shown[:, 0], "right": shown[:, -1], "top": shown[0], "bottom": shown[-1]}
    assert [name for name, edge in edges.items() if not np.all(edge == 1)] == []


@every_case
def test_no_text_leaves_the_figure(case: str) -> None:
    _, figure = drawn(case)
    whole, cut = figure.bbox, []
    for text in texts(figure):
        box = text.get_window_extent()
        if box.x0 < whole.x0 or box.x1 > whole.x1 or box.y0 < whole.y0 or box.y1 > whole.y1:
            cut.append(text.get_text())
    assert cut == []


@every_case
def test_the_scale_is_whole_numbers_side_by_side(case: str) -> None:
    (axes,) = drawn(case)[1].axes
    low, high = axes.get_xlim()
    ticks = [
        (tick.label1.get_text(), tick.label1.get_window_extent())
        for tick in axes.xaxis.get_major_ticks()
        if low <= tick.get_loc() <= high
    ]
    names = [name for name, _ in ticks]
    assert len(set(names)) == len(names), names
    assert all(left.x1 < right.x0 for (_, left), (_, right) in pairwise(ticks)), names


@every_case
def test_names_are_shown_as_they_are(case: str) -> None:
    found = texts(drawn(case)[1])
    # A long name may be broken into lines.
    assert set(CASES[case][2]["predicted"]) <= {"".join(text.get_text().split()) for text in found}
    assert not any(text.get_parse_math() for text in found if "$" in text.get_text())


@every_case
def test_its_words_name_every_label_and_count(case: str) -> None:
    heading, before, series = CASES[case]
    alt = drawn(case)[0].alt
    assert heading in alt and f"{before:,} rows before" in alt
    for label in series["predicted"]:
        told = [f"{counts.get(label, 0):,} {name}" for name, counts in series.items()]
        assert f"{label} {' and '.join(told)}" in alt


def test_a_label_that_nobody_predicted_is_not_left_out() -> None:
    image, figure = drawn("a label that nobody predicted")
    assert "OTHER 0 predicted and 3 after" in image.alt
    assert "OTHER" in {text.get_text() for text in texts(figure)}


def test_the_same_counts_give_the_same_bytes() -> None:
    case = "before and after"
    assert chart.category_chart(*CASES[case]).data == drawn(case)[0].data
