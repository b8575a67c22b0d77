"""What partitions have of their own is seen, left alone by a run and kept by what takes it back."""

from collections.abc import Iterator
from typing import Any

import pytest

from runbook.errors import RefusedError, RolledBack
from runbook.plan import blockers, build_plan, review
from runbook.run.drift import differences
from tests.cases import RENAMED
from tests.conftest import NEWEST, Cluster, Database, cluster_of
from tests.migrating import (
    ATOMIC,
    ONLINE,
    catalog_of,
    check,
    migrate,
    migrate_online,
    stop_online,
    take_back,
)
from tests.operations.test_specs import ONLY_CLASSIFY, spec_of
from tests.rehearsal.rehearsing import rehearsing, there_and_back
from tests.run.online.test_online import at
from tests.run.wayback.rolling_back import roll_back
from tests.state import logical_state

TWO_INDEXES = spec_of("""
name = "two-indexes"
table = "tickets"
[[operation]]
op = "create_index"
name = "tickets_priority_idx"
columns = ["priority"]
[[operation]]
op = "create_index"
name = "tickets_priority_hash"
columns = ["priority"]
method = "hash"
""")

LEAVES = (
    "CREATE TABLE tickets (id integer, state text, priority integer) PARTITION BY RANGE (id)",
    "CREATE TABLE tickets_1 PARTITION OF tickets FOR VALUES FROM (0) TO (500)",
    "CREATE TABLE tickets_rest PARTITION OF tickets DEFAULT",
    "INSERT INTO tickets SELECT i, 'open', i % 4 FROM generate_series(0, 999) AS i",
    "UPDATE tickets SET state = 'done' WHERE id % 3 = 0",
)
BY_HAND = (
    "CREATE INDEX by_hand ON tickets_1 (priority)",
    "CREATE INDEX tickets_rest_priority_idx ON tickets_rest USING hash (priority)",
)
DEEP = (
    *(one.replace("tickets_1", "half") for one in LEAVES[:1]),
    "CREATE TABLE half PARTITION OF tickets FOR VALUES FROM (0) TO (500)"
    " PARTITION BY LIST (priority)",
    "CREATE TABLE tickets_1 PARTITION OF half FOR VALUES IN (1, 2)",
    "CREATE TABLE half_rest PARTITION OF half DEFAULT",
    *LEAVES[2:],
    *BY_HAND,
    "CREATE INDEX of_the_half ON half (priority)",
)
SOAK = pytest.mark.soak
RUNS: dict[str, Any] = {"atomic": migrate, "online": migrate_online}


@pytest.fixture(params=NEWEST, ids=lambda major: f"pg{major}")
def tickets(request: pytest.FixtureRequest, clusters: dict[int, Cluster]) -> Iterator[Database]:
    """A table of two partitions, on the newest version, on the others in the soak."""
    cluster = cluster_of(clusters, request.param)
    database = cluster.make()
    database.execute(*LEAVES)
    yield database
    cluster.drop(database)


def indexes(database: Database, table: str) -> Any:
    return database.value(
        "SELECT jsonb_object_agg(indexrelid::regclass, indisvalid) FROM pg_index"
        f" WHERE indrelid = '{table}'::regclass"
    )


@pytest.mark.parametrize("way", RUNS)
def test_an_index_of_a_partitions_own_survives_the_rollback(way: str, tickets: Database) -> None:
    """PostgreSQL would take an equal one for a part of the table's, and drop it with that."""
    tickets.execute(*BY_HAND)
    before = logical_state(tickets)
    RUNS[way](tickets, TWO_INDEXES)
    assert all(one.passed for one in check(tickets, TWO_INDEXES).values())
    assert indexes(tickets, "tickets_1") == {
        "by_hand": True,
        "tickets_1_priority_idx": True,
        "tickets_1_priority_idx1": True,
    }
    back = roll_back(tickets, TWO_INDEXES)
    assert back.catalog.wrong == back.catalog.new == ()
    assert logical_state(tickets) == before


def test_so_do_those_of_partitions_of_partitions(empty_newest: Database) -> None:
    empty_newest.execute(*DEEP)
    before = logical_state(empty_newest)
    migrate(empty_newest, TWO_INDEXES)
    assert all(one.passed for one in check(empty_newest, TWO_INDEXES).values())
    assert indexes(empty_newest, "half_rest").keys() > {"half_rest_priority_idx1"}
    empty_newest.execute("CREATE TABLE late PARTITION OF tickets FOR VALUES FROM (5000) TO (6000)")
    assert len(indexes(empty_newest, "late")) == 2
    empty_newest.execute("DROP TABLE late")
    assert roll_back(empty_newest, TWO_INDEXES).catalog.wrong == ()
    assert logical_state(empty_newest) == before


@pytest.mark.parametrize("way", ["atomic", pytest.param("online", marks=SOAK)])
def test_a_rehearsal_has_them_compared(way: str, empty_newest: Database) -> None:
    empty_newest.execute(*LEAVES, *BY_HAND)
    with rehearsing(empty_newest, "database", TWO_INDEXES, mode=way) as under_way:
        assert [leg.passed for leg in there_and_back(under_way)] == [True] * 3


@pytest.mark.parametrize("phase", ["cutover", pytest.param("index", marks=SOAK)])
def test_a_stopped_run_with_two_indexes_on_one_column_can_be_taken_back(
    phase: str, tickets: Database
) -> None:
    tickets.execute(*BY_HAND)
    before = logical_state(tickets)
    stop_online(tickets, phase, TWO_INDEXES)
    take_back(tickets, TWO_INDEXES)
    assert logical_state(tickets) == before
    migrate_online(tickets, TWO_INDEXES)
    assert all(one.passed for one in check(tickets, TWO_INDEXES).values())


CHANGES = {
    "an index": ("DROP INDEX by_hand", "CREATE INDEX more ON tickets_1 (state)"),
    "a constraint": (
        "ALTER TABLE tickets_1 DROP CONSTRAINT positive",
        "ALTER TABLE tickets_rest ADD CONSTRAINT more CHECK (id > 0)",
    ),
    "a trigger": (
        "DROP TRIGGER own ON tickets_1",
        "CREATE TRIGGER more AFTER DELETE ON tickets_1 FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    "a disabled trigger": ("ALTER TABLE tickets_1 DISABLE TRIGGER own", ""),
    "a rule": ("", "CREATE RULE more AS ON DELETE TO tickets_1 DO ALSO NOTHING"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_comparisons_see_what_a_partition_has(kind: str, empty_newest: Database) -> None:
    empty_newest.execute(
        *LEAVES,
        *BY_HAND,
        "ALTER TABLE tickets_1 ADD CONSTRAINT positive CHECK (id >= 0)",
        "CREATE TRIGGER own AFTER DELETE ON tickets_1 FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )
    catalog = catalog_of(empty_newest, TWO_INDEXES)
    plan = build_plan(TWO_INDEXES, catalog, ATOMIC)
    empty_newest.execute(*filter(None, CHANGES[kind]))
    with empty_newest.session() as connection:
        found = differences(connection, plan)
    gone, new = CHANGES[kind]
    assert (len(found.wrong), len(found.new)) == (bool(gone), bool(new)), found
    assert all("public.tickets_" in one for one in (*found.wrong, *found.new))
    for way in (migrate, migrate_online):
        with pytest.raises(RefusedError, match=r"partitions\.tickets_"):
            way(empty_newest, TWO_INDEXES, catalog=catalog)


def test_a_constraint_of_the_new_columns_name_is_found(empty_newest: Database) -> None:
    """Of a partition: the column's NOT NULL gets that name there, too, from PostgreSQL 18 on."""
    empty_newest.execute(
        *LEAVES,
        LISTENING[0],
        "ALTER TABLE tickets_1 ADD CONSTRAINT tickets_level_not_null CHECK (id >= 0)",
    )
    found = blockers(review(CLASSIFIED, catalog_of(empty_newest, CLASSIFIED), ATOMIC))
    assert [(one.code, one.object) for one in found] == [
        ("name-taken", "public.tickets_1.tickets_level_not_null")
    ]
    with pytest.raises(RolledBack, match="42710"):
        migrate(empty_newest, CLASSIFIED)


# -- triggers --------------------------------------------------------------------------------------

CLASSIFIED = spec_of(ONLY_CLASSIFY)
LISTENING = (
    "CREATE TYPE severity AS ENUM ('low', 'high')",
    "CREATE INDEX ON tickets (priority)",
    "CREATE TABLE heard (id integer)",
    "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN INSERT INTO heard VALUES (NEW.id); RETURN NULL; END$$",
    "CREATE TRIGGER hear AFTER UPDATE OF priority ON tickets_1"
    " FOR EACH ROW EXECUTE FUNCTION hear()",
)


@pytest.mark.parametrize("way", RUNS)
@pytest.mark.parametrize(
    "made",
    [pytest.param((*LEAVES, *LISTENING), marks=SOAK), (*DEEP, *LISTENING)],
    ids=["leaf", "sub"],
)
def test_a_trigger_of_a_partition_hears_nothing_of_columns_that_stay(
    way: str, made: tuple[str, ...], empty_newest: Database
) -> None:
    """It is found by the review, and no column is set to itself to spare its index."""
    empty_newest.execute(*made)
    options = {"atomic": ATOMIC, "online": ONLINE}[way]
    found = review(CLASSIFIED, catalog_of(empty_newest, CLASSIFIED), options)
    assert [one.object for one in found if one.code == "update-trigger"] == ["hear"]
    RUNS[way](empty_newest, CLASSIFIED)
    assert all(one.passed for one in check(empty_newest, CLASSIFIED).values())
    assert empty_newest.value("SELECT count(*) FROM heard") == 0


# -- partitions that come and go while a run is stopped --------------------------------------------

MIGRATED = spec_of(RENAMED)
ATTACHED = (
    "CREATE TABLE late (LIKE tickets INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
    "INSERT INTO late (id, state, priority) SELECT i, 'done', i % 4"
    " FROM generate_series(5000, 5999) AS i",
    "CREATE INDEX by_hand_of_late ON late (state)",
    "ALTER TABLE tickets ATTACH PARTITION late FOR VALUES FROM (5000) TO (6000)",
)
EMPTY = ("CREATE TABLE empty PARTITION OF tickets FOR VALUES FROM (6000) TO (7000)",)
DETACHED = ("ALTER TABLE tickets DETACH PARTITION tickets_1",)
BACK_AGAIN = (
    *DETACHED,
    "INSERT INTO tickets_1 (id, state, priority) VALUES (7, 'done', 1)",
    "ALTER TABLE tickets ATTACH PARTITION tickets_1 FOR VALUES FROM (0) TO (500)",
)
COMING_AND_GOING = {
    "with rows": ATTACHED,
    "empty": EMPTY,
    "detached": DETACHED,
    "all of them": (*ATTACHED, *EMPTY, *DETACHED),
    "detached and attached again": BACK_AGAIN,
}


def soaked(*but: str) -> list[Any]:
    """Return what partitions do, most of it for the soak alone."""
    return [pytest.param(one, marks=() if one in but else SOAK) for one in COMING_AND_GOING]


@pytest.mark.parametrize("phase", [pytest.param("backfill", marks=SOAK), "cutover"])
@pytest.mark.parametrize("what", soaked("all of them"))
def test_partitions_that_come_and_go_while_a_run_is_stopped(
    what: str, phase: str, empty_newest: Database
) -> None:
    empty_newest.execute(*LEAVES)
    stop_online(empty_newest, phase, MIGRATED)
    empty_newest.execute(*COMING_AND_GOING[what])
    rows = empty_newest.value("SELECT count(*) FROM tickets")
    assert migrate_online(empty_newest, MIGRATED).rows == rows
    assert [one for one in check(empty_newest, MIGRATED).values() if not one.passed] == []
    assert empty_newest.value("SELECT count(*) FROM issues WHERE state_2 = 'closed'") == (
        empty_newest.value("SELECT count(*) FROM issues WHERE state = 'done'")
    )


@pytest.mark.parametrize("what", soaked("detached and attached again"))
def test_the_run_can_be_taken_back_then(what: str, empty_newest: Database) -> None:
    """One that was detached keeps the column, and with it the type: that is named."""
    empty_newest.execute(*LEAVES)
    stop_online(empty_newest, "cutover", MIGRATED)
    empty_newest.execute(*COMING_AND_GOING[what])
    if empty_newest.value("SELECT NOT relispartition FROM pg_class WHERE relname = 'tickets_1'"):
        with pytest.raises(RolledBack, match=r"column state_2 of table public\.tickets_1"):
            take_back(empty_newest, MIGRATED)
        empty_newest.execute("ALTER TABLE tickets_1 DROP COLUMN state_2")
    take_back(empty_newest, MIGRATED)
    assert catalog_of(empty_newest, MIGRATED).unfinished is None
    left = empty_newest.value(
        "SELECT array_agg(indexrelid::regclass::text) FROM pg_index"
        " WHERE indrelid IN (SELECT relid FROM pg_partition_tree('tickets'))"
    )
    assert left == (["by_hand_of_late"] if ATTACHED[0] in COMING_AND_GOING[what] else None)


def test_one_that_is_attached_during_the_run_is_filled_too(empty_newest: Database) -> None:
    empty_newest.execute(*LEAVES)
    with at("index", "begins", lambda: empty_newest.execute(*ATTACHED)) as tell:
        assert migrate_online(empty_newest, MIGRATED, tell=tell).rows == 2000
    assert [one for one in check(empty_newest, MIGRATED).values() if not one.passed] == []
