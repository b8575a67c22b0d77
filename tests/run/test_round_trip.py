"""Random tables, migrated and taken back: what is not the migration's is as it was, to the byte."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runbook.plan import blockers, review
from runbook.spec import Spec
from tests.cases import CASES
from tests.conftest import NEWEST, Cluster, Database, cluster_of
from tests.dumps import as_before, difference, dumped, names_of
from tests.migrating import ATOMIC, ONLINE, catalog_of, check, migrate, migrate_online
from tests.run.wayback.rolling_back import roll_back
from tests.schemas import Schema, Server, schemas

ACCEPTABLE = {"dependent-name-taken", "constraint-not-valid"}
"""What the review may find: names that are cut to the same 63 bytes, and rows that no UPDATE may
touch."""

ONLINE_ALONE = {"rule-on-generated-column", "trigger-fires-later"}


@pytest.fixture(params=NEWEST, ids=lambda major: f"pg{major}")
def cluster(request: pytest.FixtureRequest, clusters: dict[int, Cluster]) -> Cluster:
    """A server of each version."""
    return cluster_of(clusters, request.param)


@pytest.fixture
def server(database: Database) -> Server:
    return Server.of(database)


def mode_of(database: Database, schema: Schema) -> str:
    """Return the mode to migrate in, or '' where the review forbids both, as it may."""
    catalog = catalog_of(database, schema.spec)
    found = {
        mode: {one.code for one in blockers(review(schema.spec, catalog, options))}
        for mode, options in (("atomic", ATOMIC), ("online", ONLINE))
    }
    assert found["atomic"] <= ACCEPTABLE and found["online"] <= ACCEPTABLE | ONLINE_ALONE, found
    wanted = ["online", "atomic"] if schema.online else ["atomic"]
    return next((mode for mode in wanted if not found[mode]), "")


def assert_renamed(
    before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]], spec: Spec, oid: int
) -> dict[str, str]:
    """Hold that all that carried the table's name follows it, and nothing else; return old → new
    names."""
    prefix = f"{spec.table}_"
    for key, (name, table) in before.items():
        wanted = name
        if key == f"relation {oid}":
            wanted = spec.table_after
        elif table == oid and name.startswith(prefix):
            cut = f"{spec.table_after}_{name.removeprefix(prefix)}".encode()[:63]
            wanted = cut.decode(errors="ignore")
        assert after[key][0] == wanted, name
    return {before[key][0]: after[key][0] for key in before if before[key] != after[key]}


def round_trip(cluster: Cluster, schema: Schema) -> None:
    database = cluster.make()
    try:
        database.execute(*schema.statements)
        mode = mode_of(database, schema)
        if mode:
            there_and_back(database, schema.spec, mode)
    finally:
        cluster.drop(database)


def there_and_back(database: Database, spec: Spec, mode: str) -> None:
    catalog = catalog_of(database, spec)
    assert catalog.table
    oid = catalog.table.oid
    before, named = dumped(database), names_of(database)
    way: Any = {"atomic": migrate, "online": migrate_online}[mode]
    assert way(database, spec, catalog=catalog).proof.passed
    assert [one for one in check(database, spec).values() if not one.passed] == []
    renamed = assert_renamed(named, names_of(database), spec, oid)
    assert not (
        found := difference(before, as_before(database, spec, dumped(database), renamed))
    ), found
    back = roll_back(database, spec)
    assert back.rows.passed and back.catalog.wrong == back.catalog.new == ()
    assert dumped(database) == before
    assert names_of(database) == named


FREELY = settings(
    phases=[Phase.generate],  # to shrink one would take an hour
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    database=None,
)


@settings(FREELY, max_examples=12, derandomize=True)
@given(data=st.data())
def test_a_table_that_was_migrated_is_the_same_but_for_what_the_spec_says(
    cluster: Cluster, server: Server, data: st.DataObject
) -> None:
    round_trip(cluster, data.draw(schemas(server)))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
@settings(FREELY, max_examples=100)
@given(data=st.data())
def test_any_table_that_was_migrated_is_the_same_but_for_what_the_spec_says(
    cluster: Cluster, server: Server, part: int, data: st.DataObject
) -> None:
    round_trip(cluster, data.draw(schemas(server)))


CHANGES = (
    "COMMENT ON COLUMN issues.state IS 'changed'",
    "GRANT SELECT (state) ON issues TO PUBLIC",
    "ALTER TABLE issues ALTER state SET STATISTICS 7",
    "ALTER TABLE issues SET (fillfactor = 71)",
    "ALTER INDEX issues_pkey RENAME TO changed",
    "ALTER TABLE issues CLUSTER ON changed",
    "ALTER TABLE issues ALTER price SET DEFAULT 1.0",
    "UPDATE issues SET price = 1.00 WHERE id = 7",
    "DELETE FROM issues WHERE id = 1",
    "SELECT nextval('issues_id_seq')",
    "CREATE INDEX ON issues (state_2)",
    "ALTER TABLE issues ALTER price TYPE numeric(9,3)",
)


def test_the_comparison_sees_every_small_change(empty_newest: Database) -> None:
    """Or else the tests above would hold of anything."""
    case = CASES["classify first"]
    empty_newest.execute(*case.made)
    before, named = dumped(empty_newest), names_of(empty_newest)
    migrate(empty_newest, case.spec)
    renamed = {
        named[key][0]: name for key, (name, _) in names_of(empty_newest).items() if key in named
    }
    for change in CHANGES:
        last = as_before(empty_newest, case.spec, dumped(empty_newest), renamed)
        assert change != CHANGES[0] or not difference(before, last)
        empty_newest.execute(change)
        after = as_before(empty_newest, case.spec, dumped(empty_newest), renamed)
        assert difference(last, after), change
