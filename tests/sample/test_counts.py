"""Row counts per operation add up exactly, whatever is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.sample import EVEN_SHARES, SAMPLE, scaled


def test_the_sample_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(TypeError):
        SAMPLE["cache:album-cover-art"] = 2  # type: ignore[index]


def test_scaled_to_its_own_size_is_the_sample() -> None:
    assert scaled(4052) == SAMPLE


@given(rows=st.integers(0, 10_000_000), weights=st.lists(st.integers(0, 1000), min_size=5))
def test_scaled_gives_exactly_so_many_rows(rows: int, weights: list[int]) -> None:
    assert sum(scaled(rows).values()) == rows
    total = sum(weights[:5])
    if total:
        shares = {label: w / total for label, w in zip(EVEN_SHARES, weights, strict=False)}
        counts = scaled(rows, shares)
        assert sum(counts.values()) == rows
        assert all(count > 0 for count in counts.values())


def test_scaled_gives_each_label_its_share() -> None:
    counts = scaled(1_000_000, {"ENRICHED": 0.93, "CREATED": 0.065, "CORRECTED": 0.005})
    assert (
        sum(rows for operation, rows in counts.items() if ":" in operation)
        == 930_000 - (counts["PREVIEW_ENRICHMENT"])
    )
    assert counts["admin_correction"] == 5000
    assert max(EVEN_SHARES.values()) <= 0.4


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        (-1, None),
        (10, {"ENRICHED": 0.5}),
        (10, {}),
        (10, {"LOST": 1.0}),
        (10, {"ENRICHED": 1.5, "CREATED": -0.5}),
    ],
)
def test_scaled_refuses_what_makes_no_sense(rows: int, shares: dict[str, float] | None) -> None:
    with pytest.raises(ValueError, match=r"rows|labels|shares"):
        scaled(rows, shares)
