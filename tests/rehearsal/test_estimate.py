"""The estimate: what was measured, taken to all rows."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runbook.rehearsal import Leg, estimate

times = st.floats(0.1, 1e6)
shares = st.floats(0, 1)


def leg(ms: float, locked: float, grows: float, locked_grows: float) -> Leg:
    values: dict[str, Any] = {"statements": (), "proof": {"passed": True}, "says": "", "checks": ()}
    return Leg(
        name="up",
        ms=ms,
        locked_ms=locked,
        grows_ms=ms * grows,
        locked_grows_ms=locked * locked_grows,
        **values,
    )


legs = st.lists(st.builds(leg, times, times, shares, shares), min_size=1, max_size=3)


@given(legs, st.integers(1, 10**6), st.integers(1, 10**4))
def test_it_lies_between_what_was_measured_and_all_of_it_times_the_rows(
    measured: list[Leg], rows: int, more: int
) -> None:
    found = estimate("up", measured, rows, rows * more)
    for (least, most), ours in ((found.ms, "ms"), (found.locked_ms, "locked_ms")):
        figures = [getattr(one, ours) for one in measured]
        assert min(figures) - 0.1 <= least <= most
        assert least <= min(figures) * more + 0.1


@given(legs, st.integers(2, 10**6))
def test_of_all_rows_it_is_what_was_measured(measured: list[Leg], rows: int) -> None:
    found = estimate("up", measured, rows, rows)
    figures = [one.ms for one in measured]
    assert abs(found.ms[0] - min(figures)) < 0.1 and abs(found.ms[1] - max(figures)) < 0.1


@given(st.builds(leg, times, times, st.just(0.0), st.just(0.0)), st.integers(1, 10**9))
def test_what_does_not_grow_stays(one: Leg, total: int) -> None:
    found = estimate("up", [one], 1, total)
    assert found.ms == (round(one.ms, 1), round(one.ms, 1))
