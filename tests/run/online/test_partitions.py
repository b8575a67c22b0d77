"""Partitioned tables, in both modes: what is done to the table is done to every partition."""

from pathlib import Path
from typing import Any

import pytest

from runbook.plan import Options, blockers, build_plan, review
from runbook.plan.script import script
from runbook.run.online import Limits
from tests.cases import PARTITIONED, RENAMED
from tests.conftest import Cluster, Database
from tests.migrating import (
    ATOMIC,
    ONLINE,
    catalog_of,
    check,
    migrate,
    migrate_online,
)
from tests.operations.test_specs import ONLY_CLASSIFY, counts, spec_of
from tests.plan.test_plan import psql
from tests.run.online.test_online import at
from tests.state import logical_state

SPEC = spec_of(RENAMED)


@pytest.fixture
def partitioned(database: Database) -> Database:
    database.execute(*PARTITIONED)
    return database


def assert_done(database: Database) -> None:
    assert [one for one in check(database, SPEC).values() if not one.passed] == []
    assert database.value("SELECT count(*) FROM issues WHERE state_2 IS NULL") == 0


def test_both_modes_and_psql_come_to_the_same_end(cluster: Cluster, tmp_path: Path) -> None:
    states = []
    for way in ("atomic", "online", "script"):
        database = cluster.make()
        database.execute(*PARTITIONED)
        if way == "script":
            catalog = catalog_of(database, SPEC)
            assert catalog.table is not None
            psql(database, script(SPEC, build_plan(SPEC, catalog, ONLINE), catalog.table), tmp_path)
        else:
            applied = (migrate if way == "atomic" else migrate_online)(database, SPEC)
            assert applied.proof.passed
        assert_done(database)
        assert counts(database, "issues", "state_2") == {"open": 400, "closed": 400, "unknown": 200}
        states.append(logical_state(database))
        cluster.drop(database)
    assert states[0] == states[1] == states[2]


def test_every_partition_is_backfilled_by_several_jobs(partitioned: Database) -> None:
    assert migrate_online(partitioned, SPEC, limits=Limits(jobs=2)).updated == 600
    done = partitioned.value(
        "SELECT jsonb_object_agg(t, n) FROM (SELECT table_oid::regclass::text AS t, sum(rows) AS n"
        " FROM runbook.online_span GROUP BY 1) AS s"
    )
    assert done == {"tickets_1": 239, '"Tickets 2"': 240, "tickets_rest": 121}
    assert_done(partitioned)


def test_partitions_come_and_go_meanwhile(partitioned: Database) -> None:
    """A new one has column, triggers and index from its parent; one that went took its rows."""

    def change() -> None:
        partitioned.execute(
            "CREATE TABLE tickets_new PARTITION OF tickets FOR VALUES FROM (5000) TO (6000)",
            "INSERT INTO tickets (id, state) VALUES (5000, 'done'), (5001, 'open')",
            'DROP TABLE "Tickets 2"',
            "VACUUM FULL tickets_1",
        )
        label = "SELECT state_2::text FROM tickets_new WHERE id = 5000"
        assert partitioned.value(label) == "closed"  # at once, by the triggers

    with at("backfill", "begins", change) as tell:
        migrate_online(partitioned, SPEC, tell=tell)
    assert_done(partitioned)
    assert partitioned.value("SELECT state_2::text FROM tickets_new WHERE id = 5000") == "closed"


def test_a_partition_that_comes_before_the_plan_is_applied_is_noticed(
    partitioned: Database,
) -> None:
    catalog = catalog_of(partitioned, SPEC)
    partitioned.execute(
        "CREATE TABLE tickets_new PARTITION OF tickets FOR VALUES FROM (5000) TO (6000)"
    )
    for way in (migrate, migrate_online):
        with pytest.raises(Exception, match="tickets_new is new"):
            way(partitioned, SPEC, catalog=catalog)


REFUSED: dict[str, tuple[tuple[str, ...], Options, str]] = {
    "partition": (
        (
            "CREATE TABLE whole (id int, state text, priority int) PARTITION BY RANGE (id)",
            "CREATE TABLE tickets PARTITION OF whole DEFAULT",
        ),
        ATOMIC,
        "Name public.whole in the spec",
    ),
    "inheritance child": (
        ("CREATE TABLE base (id int)", "CREATE TABLE tickets (priority int) INHERITS (base)"),
        ONLINE,
        "children by INHERITS are not supported",
    ),
    "inheritance parent": (
        ("CREATE TABLE tickets (priority int)", "CREATE TABLE more () INHERITS (tickets)"),
        ONLINE,
        "NO INHERIT",
    ),
    "foreign partition": (
        (
            "CREATE TABLE tickets (id int, state text, priority int) PARTITION BY RANGE (id)",
            "CREATE FOREIGN DATA WRAPPER w",
            "CREATE SERVER s FOREIGN DATA WRAPPER w",
            "CREATE FOREIGN TABLE far PARTITION OF tickets DEFAULT SERVER s",
        ),
        ATOMIC,
        "Detach it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_migrated_is_refused_with_a_clear_word(
    name: str, empty_newest: Database
) -> None:
    made, options, remedy = REFUSED[name]
    empty_newest.execute(*made)
    spec = spec_of(ONLY_CLASSIFY)
    found = blockers(review(spec, catalog_of(empty_newest, spec), options))
    assert any(remedy in finding.remedy for finding in found), found


def test_sub_partitions_are_migrated_at_once_only(empty_newest: Database) -> None:
    empty_newest.execute(
        "CREATE TABLE tickets (id int, state text, priority int) PARTITION BY RANGE (id)",
        "CREATE TABLE half PARTITION OF tickets FOR VALUES FROM (0) TO (500)"
        " PARTITION BY LIST (priority)",
        "CREATE TABLE leaf PARTITION OF half DEFAULT",
        "CREATE TABLE rest PARTITION OF tickets DEFAULT",
        "INSERT INTO tickets SELECT i, 'open', i % 4 FROM generate_series(0, 999) AS i",
    )
    catalog = catalog_of(empty_newest, SPEC)
    assert "sub-partitions" in codes(blockers(review(SPEC, catalog, ONLINE)))
    assert migrate(empty_newest, SPEC).proof.passed
    assert_done(empty_newest)


def codes(findings: Any) -> list[str]:
    return [finding.code for finding in findings]


@pytest.mark.parametrize("published", ["TABLE tickets", "TABLE tickets_1", "ALL TABLES"])
def test_a_published_table_is_warned_of(published: str, empty_newest: Database) -> None:
    empty_newest.execute(*PARTITIONED)
    catalog = catalog_of(empty_newest, SPEC)
    plan = build_plan(SPEC, catalog, ONLINE)
    assert "published" not in [one.code for one in review(SPEC, catalog, ONLINE)]
    empty_newest.execute(f"CREATE PUBLICATION p FOR {published}")
    catalog = catalog_of(empty_newest, SPEC)
    (finding,) = (one for one in review(SPEC, catalog, ONLINE) if one.code == "published")
    assert finding.level == "warning"
    assert build_plan(SPEC, catalog, ONLINE).sha256 == plan.sha256
