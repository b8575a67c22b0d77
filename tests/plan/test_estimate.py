"""Estimates: ranges that hold the likely figure, scale with the rows, and choose no mode."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.catalog import read_catalog
from runbook.facts import Sample
from runbook.plan import Options, build_plan
from runbook.plan.estimate import (
    FIXED_MS,
    by_statement,
    done_before,
    expected,
    nominal_ms,
    phase_spans,
)
from runbook.spec import load_spec
from runbook.vocabulary import Phase
from tests.cases import PARTITIONED, RENAMED
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, ONLINE, catalog_of
from tests.operations.test_specs import TICKETS, spec_of

SPEC = load_spec("llamalog")
SPEED = st.floats(min_value=0.01, max_value=1e4)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    least, median, most = sorted(draw(st.tuples(SPEED, SPEED, SPEED)))
    return Sample(rows=1_000, least_us=least, median_us=median, most_us=most)


@given(st.none() | samples(), st.floats(0, 1e9), st.floats(0, FIXED_MS))
def test_a_range_holds_its_likely_figure_and_grows_with_the_work(
    sample: Sample | None, growing_ms: float, fixed_ms: float
) -> None:
    one = expected(fixed_ms + growing_ms, sample, fixed_ms=fixed_ms)
    assert one.holds(one.likely_ms)
    twice = expected(fixed_ms + 2 * growing_ms, sample, fixed_ms=fixed_ms)
    assert twice.least_ms >= one.least_ms and twice.most_ms >= one.most_ms
    assert twice.likely_ms - fixed_ms == pytest.approx(2 * (one.likely_ms - fixed_ms), abs=1e-9)


@pytest.mark.parametrize("options", [ATOMIC, ONLINE], ids=["atomic", "online"])
def test_the_statements_figures_add_up_to_the_plans(
    options: Options, sample_newest: Database
) -> None:
    plan = build_plan(SPEC, catalog_of(sample_newest), options)
    there = [s for s in plan.statements if s.phase not in (Phase.CONTRACT, Phase.ROLLBACK)]
    ranges = by_statement(there, 4052, None)
    total = sum(one.likely_ms for one in ranges if one)
    assert plan.estimated_ms == pytest.approx(FIXED_MS + total)
    assert nominal_ms(there, 2 * 4052) - FIXED_MS == pytest.approx(2 * total)


def test_the_batches_of_partitions_share_the_rows(empty_newest: Database) -> None:
    empty_newest.execute(*PARTITIONED)
    spec = spec_of(RENAMED)
    plan = build_plan(spec, catalog_of(empty_newest, spec), ONLINE)
    figures = by_statement([*plan.of_phase(Phase.BACKFILL)], 1_000, None)
    batches = [
        found.likely_ms
        for found, one in zip(figures, plan.of_phase(Phase.BACKFILL), strict=True)
        if found and one.role == "batch"
    ]
    whole = next(one.row_us for one in plan.statements if one.role == "batch")
    assert len(batches) == 3 and sum(batches) == pytest.approx(whole)


def test_a_slow_sample_changes_neither_plan_nor_mode(sample_newest: Database) -> None:
    catalog = catalog_of(sample_newest)
    slow = Sample(rows=4052, least_us=1e4, median_us=1e5, most_us=1e6)
    plans = {build_plan(SPEC, replace(catalog, sample=one), Options()) .sha256
             for one in (catalog.sample, slow, None)}  # fmt: skip
    assert len(plans) == 1


def test_a_sample_is_read_and_hashed_whatever_the_table(cluster: Cluster) -> None:
    spec = spec_of(RENAMED)
    for made, is_measured in (
        (TICKETS, True),
        (PARTITIONED, True),
        (TICKETS[:1], False),
        ((*TICKETS, "DELETE FROM tickets WHERE id > 10"), False),
    ):
        database = cluster.make()
        try:
            database.execute(*made)
            sample = catalog_of(database, spec).sample
            assert (sample is not None) == is_measured
            if sample:
                assert 100 <= sample.rows <= 1_000
                assert 0 < sample.least_us <= sample.median_us <= sample.most_us
        finally:
            cluster.drop(database)


def test_a_role_that_may_only_read_can_measure_one(sample: Database) -> None:
    sample.execute("GRANT SELECT ON enrichment_logs TO pg_signal_backend")
    with sample.connect(options="-c role=pg_signal_backend") as connection:
        measured = read_catalog(connection, SPEC).sample
    assert measured is not None and 1_000 <= measured.rows <= 4052


@pytest.mark.parametrize("options", [ATOMIC, ONLINE], ids=["atomic", "online"])
def test_progress_goes_from_nothing_to_all_and_never_back(
    options: Options, sample_newest: Database
) -> None:
    plan = build_plan(SPEC, catalog_of(sample_newest), options)
    spans = [*phase_spans(plan.statements, 4052).values()]
    assert spans[0][0] == 0.0 and spans[-1][1] == pytest.approx(1.0)
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    for phase in {one.phase for one in plan.statements}:
        shares = [*done_before(plan.of_phase(phase), 4052).values()]
        assert shares[0] == 0.0 and shares == sorted(shares) and shares[-1] < 1.0
