"""Who calls the table by its name, from pg_stat_statements."""

from collections.abc import Iterator

import pytest

from runbook.catalog import read_catalog
from runbook.facts import Kind
from runbook.plan import Options, review
from runbook.run.usage import uses
from tests.cases import RENAMED
from tests.conftest import MAJORS, Cluster, Database, cluster_of
from tests.migrating import catalog_of
from tests.operations.test_specs import TICKETS, spec_of

SPEC = spec_of(RENAMED)


@pytest.fixture
def counting(clusters: dict[int, Cluster]) -> Iterator[Database]:
    """A database whose server counts statements: the wheel comes without the extension."""
    if 15 not in MAJORS:
        pytest.skip("Debian's PostgreSQL 15 is not here")
    cluster = cluster_of(clusters, 15)
    database = cluster.make()
    database.execute("CREATE EXTENSION pg_stat_statements", *TICKETS)
    yield database
    cluster.drop(database)


def codes(database: Database) -> list[str]:
    return [one.code for one in review(SPEC, catalog_of(database, SPEC), Options())]


def test_statements_that_name_the_table_are_counted_with_who_sends_them(counting: Database) -> None:
    counting.execute("SELECT pg_stat_statements_reset()")
    with counting.connect() as connection:
        for n in range(3):
            connection.execute(f"SELECT price FROM Tickets WHERE id = {n}".encode())
        connection.execute("SELECT 'tickets_2'")
    around = catalog_of(counting, SPEC).surroundings
    assert around is not None
    (called,) = around.of_kind(Kind.STATEMENT)
    assert called.name == "3 calls by postgres"
    assert called.detail == "SELECT price FROM Tickets WHERE id = $1"
    assert "statements-in-use" in codes(counting)


def test_the_reviews_own_count_is_none_of_them(counting: Database) -> None:
    counting.execute("SELECT pg_stat_statements_reset()")
    assert "statements-in-use" not in codes(counting) + codes(counting)


def test_a_role_that_may_not_read_them_sees_none_and_no_error(counting: Database) -> None:
    counting.execute(
        "GRANT SELECT ON tickets TO pg_signal_backend",
        "REVOKE ALL ON pg_stat_statements FROM PUBLIC",
    )
    with counting.connect(options="-c role=pg_signal_backend") as connection:
        around = read_catalog(connection, SPEC).surroundings
    assert around is not None and not around.of_kind(Kind.STATEMENT)


@pytest.mark.parametrize("schema", ["public", "Else%where"])
def test_statements_that_still_name_a_view_are_seen_wherever_the_extension_lives(
    schema: str, counting: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if schema != "public":
        counting.execute(
            f'CREATE SCHEMA "{schema}"', f'ALTER EXTENSION pg_stat_statements SET SCHEMA "{schema}"'
        )
    called = "SELECT count(*) FROM tickets"
    counting.execute(called)

    def meanwhile(seconds: float) -> None:
        counting.execute(*[called] * 3)

    monkeypatch.setattr("time.sleep", meanwhile)
    with counting.session() as connection:
        found = uses(connection, "public", "tickets", watch_s=1)
    assert "statements that name it were called 3 times in 1 s" in found
