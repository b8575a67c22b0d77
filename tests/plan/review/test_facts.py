"""The review of what no test can bring a server to: a full disk, an old database, a late replica.

The catalog is a real one; the one fact that is at stake is put in its place.
"""

from dataclasses import replace
from typing import Any

import pytest

from runbook.facts import Catalog, Replica, Surroundings
from runbook.plan import Options, review
from runbook.spec import load_spec
from tests.conftest import Database
from tests.migrating import catalog_of

SPEC = load_spec("llamalog")
GB = 1 << 30


@pytest.fixture
def catalog(sample_newest: Database) -> Catalog:
    return catalog_of(sample_newest)


def levels(catalog: Catalog, **around: Any) -> dict[str, str]:
    """Return the findings on a catalog whose surroundings are changed: code → level."""
    assert catalog.surroundings is not None
    changed = replace(catalog, surroundings=replace(catalog.surroundings, **around))
    return {one.code: one.level.value for one in review(SPEC, changed, Options())}


@pytest.mark.parametrize(
    ("age", "level"),
    [(999_999_999, None), (1_000_000_000, "warning"), (2_000_000_000, "blocker")],
)
def test_the_end_of_transaction_numbers(catalog: Catalog, age: int, level: str | None) -> None:
    assert catalog.surroundings is not None
    ages = replace(catalog.surroundings.ages, database=age)
    assert levels(catalog, ages=ages).get("wraparound-near") == level


def test_a_disk_is_short_below_twice_the_need_and_forbids_the_run_below_the_need(
    catalog: Catalog,
) -> None:
    found = [levels(catalog, free_bytes=1 << power).get("disk-short") for power in range(10, 40)]
    # Between a size and its double lies one power of two.
    assert found.count("warning") == 1
    assert found == sorted(found, key=["blocker", "warning", None].index)
    assert found[0] == "blocker" and found[-1] is None


def test_a_disk_that_cannot_be_seen_is_told_of_where_much_is_needed(catalog: Catalog) -> None:
    assert catalog.table is not None
    huge = replace(catalog, table=replace(catalog.table, heap_bytes=64 * GB))
    assert "disk-unknown" not in levels(catalog, free_bytes=None)
    assert levels(huge, free_bytes=None)["disk-unknown"] == "note"


@pytest.mark.parametrize(
    ("lag_s", "lag_bytes", "is_late"),
    [(None, None, False), (9.0, GB, False), (11.0, 0, True), (None, GB + 1, True)],
)
def test_a_replica_is_late_by_time_or_by_bytes(
    catalog: Catalog, lag_s: float | None, lag_bytes: int | None, is_late: bool
) -> None:
    replica = Replica(name="far", is_synchronous=False, lag_bytes=lag_bytes, lag_s=lag_s)
    assert ("replica-late" in levels(catalog, replicas=(replica,))) == is_late


def test_a_server_that_is_too_old_is_asked_nothing_else(catalog: Catalog) -> None:
    server = replace(catalog.server, version_number=140_010, server_version="14.10")
    old = replace(catalog, server=server, table=None, surroundings=None, census=None)
    assert [one.code for one in review(SPEC, old, Options())] == ["server-too-old"]


def test_nothing_is_said_of_what_was_not_read(catalog: Catalog) -> None:
    assert isinstance(catalog.surroundings, Surroundings)
    alone = replace(catalog, surroundings=None)
    kept = {one.code for one in review(SPEC, alone, Options())}
    assert kept == {"otherwise-exceeded", "rule-takes-nothing", "index-name"}
