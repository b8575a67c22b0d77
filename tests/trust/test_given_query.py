"""A query of the fleet's file: nobody's code answers it with the rights of who runs the fleet."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook.errors import BlockedError, UsageError
from runbook.fleet.file import read_fleet
from runbook.fleet.targets import find_targets
from runbook.trust.given_query import require_trusted_query
from tests.conftest import Cluster
from tests.trust.owners import Owned, owned
from tests.trust.test_owner_code import PURE, Mark

TENANTS = "CREATE TABLE app.tenants (datname text, at timestamptz, size integer)"
ROW = "INSERT INTO app.tenants VALUES ('one')"
SELF = (
    "CREATE FUNCTION app.self() RETURNS text LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN current_database(); END $$"
)
QUERY = "SELECT datname FROM app.tenants"
SAME = (
    "CREATE FUNCTION app.same(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN true; END $$"
)
FEW = "CREATE DOMAIN app.few AS text CHECK (app.pure(1) = 1)"

CODE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "a view": ((SELF, "CREATE VIEW app.tenants AS SELECT app.self() AS datname"), QUERY,
               r"view app\.tenants"),
    "a name that is quoted": (
        (SELF, 'CREATE VIEW app."The "" Tenants" AS SELECT app.self() AS datname'),
        'SELECT datname FROM APP /* theirs */ . "The "" Tenants"', r'view app\."The "" Tenants"'),
    "a function": ((SELF,), "SELECT app.self()", r"function app\.self\(\)"),
    "an operator": (
        (TENANTS, ROW, SAME,
         "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.same)"),
        f"{QUERY} WHERE datname OPERATOR(app.===) 'x'", r"operator app\.==="),
    "a type in the query": (
        (PURE, FEW), "SELECT unnest('{x}'::app.few[])::text", r"type app\.few"),
    "a type of a column": (
        (PURE, FEW, TENANTS, "ALTER TABLE app.tenants ADD many app.few[]"),
        f"{QUERY} WHERE many = '{{x}}'", r"column many of app\.tenants, of type app\.few\[\]"),
    "a cast": (
        (TENANTS, "ALTER TABLE app.tenants ADD status app.status DEFAULT 'new'", ROW,
         "CREATE FUNCTION app.told(app.status) RETURNS text LANGUAGE plpgsql AS"
         " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN 'a'; END $$",
         "CREATE CAST (app.status AS text) WITH FUNCTION app.told(app.status) AS IMPLICIT"),
        f"{QUERY} WHERE status LIKE 'a%'", r"column status of app\.tenants, of type app\.status"),
    "an index": (
        (PURE, TENANTS, "CREATE INDEX x ON app.tenants (size) WHERE app.pure(7) = 1"), QUERY,
        r"index x on app\.tenants"),
    "what executes a text": (
        (SELF, "CREATE VIEW app.tenants AS SELECT app.self() AS datname"),
        "SELECT query_to_xml('SELECT * FROM app.tenants', true, true, '')", r"view app\.tenants"),
}  # fmt: skip
"""What an owner makes, a query that would run it, and how it is named."""


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


def ask(place: Owned, query: str, role: str = "postgres") -> list[str]:
    """Return what a fleet's query finds."""
    with place.connected_as(role).session() as connection, connection.transaction():
        require_trusted_query(connection, query, ledger_schema="runbook")
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


@pytest.mark.parametrize("what", CODE)
def test_code_that_a_query_would_run_is_refused_by_name(
    what: str, place: Owned, newest: Cluster
) -> None:
    statements, query, named = CODE[what]
    mark = Mark(newest)
    place.as_owner(*mark.in_(statements))
    with pytest.raises(BlockedError, match=f"The query reads {named}.*{place.owner}"):
        ask(place, query)
    assert not mark.by("postgres")


@pytest.mark.parametrize("schema", ["app", "ours"])
def test_a_superusers_view_is_no_better_than_what_it_reads(schema: str, place: Owned) -> None:
    place.as_owner(TENANTS, ROW, "CREATE VIEW app.below AS SELECT datname FROM app.tenants")
    place.database.execute(
        "CREATE SCHEMA ours",
        # The owner of its schema may put another one in its place.
        f"CREATE VIEW {schema}.v AS SELECT datname FROM app.tenants",
        "CREATE VIEW ours.over AS SELECT datname FROM app.below",
    )
    if schema == "app":
        with pytest.raises(BlockedError, match=r"view app\.v.*can change"):
            ask(place, "SELECT datname FROM app.v")
    else:
        assert ask(place, "SELECT datname FROM ours.v") == ["one"]
    with pytest.raises(BlockedError, match=r"view app\.below"):
        ask(place, "SELECT datname FROM ours.over")


def test_an_ordinary_table_of_anybody_is_read_and_held(place: Owned) -> None:
    place.as_owner(TENANTS, ROW, "CREATE INDEX ON app.tenants (datname) WHERE size > 3", SELF)
    assert ask(place, QUERY) == ["one"]
    assert ask(place, QUERY, role=place.owner) == ["one"]
    assert ask(place, "SELECT app.self()", role=place.owner) == [place.database.name]
    with place.database.session() as connection, connection.transaction():
        require_trusted_query(connection, QUERY, ledger_schema="runbook")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            place.as_owner("SET lock_timeout = '50ms'", "CREATE INDEX ON app.tenants (size)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), connection.transaction():
            connection.execute(ROW.encode())


def test_a_name_in_disguise_is_refused(place: Owned) -> None:
    with pytest.raises(UsageError, match="U&"):
        ask(place, r'SELECT datname FROM U&"\0061pp".tenants')


def test_a_fleet_asks_no_view_of_somebody_elses(
    place: Owned, newest: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE", place.database.url)
    path = place.folder / "FLEET.toml"
    text = 'name = "one"\nspec = "sorting.toml"\n[[target]]\nurl = "env:ONE"\ndatabases = "{}"\n'
    path.write_text(text.format(QUERY), "utf-8")
    mark = Mark(newest)
    place.as_owner(*mark.in_(CODE["a view"][0]))
    with pytest.raises(BlockedError, match=r"view app\.tenants"):
        find_targets(read_fleet(str(path)))
    assert not mark.by("postgres")
    place.as_owner("DROP VIEW app.tenants", TENANTS, ROW)
    assert [one.name for one in find_targets(read_fleet(str(path)))] == ["one"]
    path.write_text(text.format("SELECT datname FROM pg_database WHERE datname = 'postgres'"))
    assert [one.name for one in find_targets(read_fleet(str(path)))] == ["postgres"]
