"""An owner who is quick: what is swapped while the runbook looks at it, or waits for it."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.catalog import read_catalog
from runbook.errors import BlockedError, RunbookError
from runbook.facts import Act
from runbook.plan import Options, build_plan
from runbook.run import apply_atomic
from runbook.spec import parse_spec
from runbook.trust.preflight import require_trusted
from runbook.verify import verify
from tests.conftest import Cluster
from tests.trust.owners import SPEC, Owned, owned
from tests.trust.test_owner_code import PURE, Mark

PARSED = parse_spec(SPEC, file="sorting.toml")
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('app.{table}')"
)


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


def race(place: Owned, mark: Mark, table: str, look: Callable[[], Any]) -> RunbookError | None:
    """Have somebody look at a table while its owner has it locked, and add an index that calls the
    owner's function once that is waited for. Return what was raised, if anything was."""
    raised: list[RunbookError | None] = []

    def looking() -> None:
        try:
            look()
        except RunbookError as error:
            raised.append(error)
        else:
            raised.append(None)

    place.as_owner(*mark.in_((PURE,)))
    index = f"CREATE INDEX quick ON app.{table} (id) WHERE app.pure(7) = 1"
    with place.connected_as(place.owner).connect() as connection, connection.transaction():
        connection.execute(f"LOCK TABLE app.{table} IN ACCESS EXCLUSIVE MODE".encode())
        looker = threading.Thread(target=looking)
        looker.start()
        while looker.is_alive() and not place.database.value(WAITING.format(table=table)):
            pass
        connection.execute(index.encode())
    looker.join()
    return raised[0]


def test_code_that_comes_while_a_review_waits_is_seen(place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)

    def look() -> None:
        with place.database.session() as connection:
            found = read_catalog(connection, PARSED)
        assert [one.object for one in found.owner_code] == ["quick on app.tickets"]
        assert found.census is None

    error = race(place, mark, "tickets", look)
    assert error is None or isinstance(error, BlockedError)
    assert not mark.by("postgres")


def test_code_that_comes_while_the_checks_wait_is_refused(place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)
    assert place.run("migrate", "--spec", "sorting.toml").returncode == 0
    with place.database.session() as connection:
        entry = read_catalog(connection, PARSED, count=False).applied
    assert entry is not None

    def look() -> None:
        with place.database.session() as connection:
            verify(connection, PARSED, entry)

    error = race(place, mark, "issues", look)
    assert isinstance(error, BlockedError)
    assert "quick on app.issues" in error.message
    assert not mark.by("postgres")


@pytest.mark.parametrize(
    "swap",
    ["ALTER SCHEMA app RENAME TO aside", "ALTER TYPE app.status RENAME TO aside"],
    ids=["schema", "type"],
)
def test_no_name_changes_hands_under_a_superusers_lock(swap: str, place: Owned) -> None:
    place.database.execute(f"GRANT CREATE ON DATABASE {place.database.name} TO {place.owner}")
    with place.database.session() as connection:
        found = read_catalog(connection, PARSED)
    plan = build_plan(PARSED, found, Options(mode="atomic", lock_timeout_ms=300))
    tried: list[str] = []

    def progress(text: str) -> None:
        if "count" in text.lower() and not tried:
            tried.append(text)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                place.as_owner("SET lock_timeout = '100ms'", swap)

    apply_atomic(
        place.database.session,
        PARSED,
        found,
        plan,
        run_id=uuid.uuid4(),
        wait_ms=300,
        progress=progress,
    )
    assert tried
    assert place.database.value("SELECT to_regclass('app.issues')") is not None


def test_a_function_that_finds_what_the_schemas_owner_makes_is_theirs(
    place: Owned, newest: Cluster
) -> None:
    """A superuser's trigger function without a path of its own."""
    trigger = "CREATE TRIGGER a AFTER UPDATE ON app.tickets FOR EACH ROW EXECUTE FUNCTION {}()"
    body = (
        "RETURNS trigger LANGUAGE plpgsql {} AS $$BEGIN PERFORM lower(NEW.name); RETURN NEW; END$$"
    )
    place.database.execute(
        f"CREATE FUNCTION public.audit() {body.format('')}",
        f"CREATE FUNCTION public.walled() {body.format('SET search_path = pg_catalog')}",
    )
    for name, refused in (("public.walled", False), ("public.audit", True)):
        place.as_owner(trigger.format(name))
        with place.database.session() as connection:
            code = read_catalog(connection, PARSED).owner_code
        assert [(one.object, one.owner) for one in code] == (
            [("a on app.tickets", place.owner)] if refused else []
        )
        place.as_owner("DROP TRIGGER a ON app.tickets")


CALLED = (
    "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK ({} IS NOT NULL) NOT VALID",
    "CREATE INDEX k ON app.tickets ({})",
    "CREATE INDEX k ON app.tickets (id) WHERE {} IS NOT NULL",
    "CREATE STATISTICS app.k ON {}, size FROM app.tickets",
    "ALTER TABLE app.tickets ADD k text GENERATED ALWAYS AS ({}) STORED",
    "CREATE TRIGGER k BEFORE UPDATE OF name ON app.tickets FOR EACH ROW WHEN ({} IS NOT NULL)"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "ALTER TABLE app.tickets ALTER name SET DEFAULT {}",
)
"""Expressions on the table that call a function."""


@pytest.mark.parametrize("statement", CALLED)
def test_so_is_one_that_an_expression_calls_while_triggers_fire(
    statement: str, place: Owned
) -> None:
    made = "(text) RETURNS text IMMUTABLE LANGUAGE"
    place.database.execute(
        f"CREATE FUNCTION public.tidy{made} plpgsql AS 'BEGIN RETURN lower($1); END'",
    )
    argument = "'x'" if "DEFAULT" in statement else "name"
    argument = "NEW.name" if "TRIGGER" in statement else argument

    def found() -> list[tuple[str, str]]:
        with place.database.session() as connection:
            code = read_catalog(connection, PARSED).owner_code
        return [(one.kind, one.owner) for one in code]

    place.as_owner(statement.format(f"public.tidy({argument})"))
    if "TRIGGER" not in statement:
        assert found() == []  # nothing fires, and no schema is searched
    place.as_owner(
        "CREATE TRIGGER a BEFORE UPDATE ON app.tickets FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    assert found() == [("expression", place.owner)]
    place.database.execute("ALTER FUNCTION public.tidy SET search_path = pg_catalog")
    assert found() == []
    place.database.execute(
        "ALTER FUNCTION public.tidy RESET search_path",
        f"CREATE OR REPLACE FUNCTION public.tidy{made} sql RETURN lower($1)",
    )
    assert found() == []  # its body was parsed where it was made


def test_the_schema_that_counts_is_the_tables_and_not_its_partitions(place: Owned) -> None:
    place.database.execute(
        "CREATE SCHEMA firm",
        "CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM lower('A'); RETURN NEW; END $$",
        "CREATE TABLE app.parted (id bigint, state text) PARTITION BY RANGE (id)",
        "CREATE TABLE firm.part PARTITION OF app.parted FOR VALUES FROM (0) TO (9)",
        "CREATE TRIGGER t BEFORE UPDATE ON firm.part FOR EACH ROW EXECUTE FUNCTION public.audit()",
    )
    with (
        place.database.session() as connection,
        pytest.raises(BlockedError, match=r"t on firm\.part"),
    ):
        require_trusted(connection, [("app", "parted")], acts=frozenset(Act), trusted=False)


@pytest.mark.parametrize(
    "right",
    [
        "CREATE FUNCTION vault.secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
        " REVOKE EXECUTE ON FUNCTION vault.secret() FROM PUBLIC;"
        " GRANT EXECUTE ON FUNCTION vault.secret() TO {member}",
        "CREATE TABLE vault.accounts (a int, b int); GRANT SELECT ON vault.accounts TO {owner};"
        " GRANT SELECT, UPDATE ON vault.accounts TO {member}",
        "CREATE TABLE vault.accounts (a int, b int);"
        " GRANT UPDATE (b) ON vault.accounts TO {member}",
        "GRANT CREATE ON SCHEMA vault TO {member}",
    ],
    ids=["function", "table", "column", "schema"],
)
def test_a_member_with_any_right_more_is_worth_more(right: str, place: Owned) -> None:
    place.as_owner(
        "CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER t BEFORE UPDATE ON app.tickets FOR EACH ROW EXECUTE FUNCTION app.fires()",
    )
    member = f"{place.owner}_m"
    database = place.database
    database.execute(f"CREATE ROLE {member} LOGIN IN ROLE {place.owner}", "CREATE SCHEMA vault")

    def ask() -> None:
        with place.connected_as(member).session() as connection:
            require_trusted(
                connection,
                [("app", "tickets")],
                acts=frozenset(Act),
                trusted=False,
            )

    try:
        ask()
        database.execute(*right.format(member=member, owner=place.owner).split("; "))
        with pytest.raises(BlockedError, match=r"t on app\.tickets"):
            ask()
    finally:
        database.execute(f"DROP OWNED BY {member}", f"DROP ROLE {member}")


@pytest.mark.parametrize(
    "statements",
    [
        (
            "CREATE DOMAIN app.few AS text CHECK (app.pure(1) = 1)",
            "CREATE FUNCTION app.sf(app.few, text) RETURNS app.few LANGUAGE sql AS 'SELECT $1'",
            "CREATE AGGREGATE app.agg(text) (SFUNC = app.sf, STYPE = app.few, INITCOND = '1')",
        ),
        (
            "CREATE TABLE app.par (id int) PARTITION BY RANGE (id)",
            "CREATE TABLE app.p1 (id int, CHECK (app.pure(1) = 1))",
            "ALTER TABLE app.par ATTACH PARTITION app.p1 FOR VALUES FROM (0) TO (9)",
        ),
    ],
    ids=["aggregate", "partition"],
)
def test_no_copy_is_made_of_a_database_that_would_run_code_by_that(
    statements: tuple[str, ...], place: Owned, newest: Cluster
) -> None:
    mark = Mark(newest)
    place.as_owner(*mark.in_((PURE, *statements)))
    ended = place.run("rehearse", "--spec", "sorting.toml", "--scratch", "database")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "--scratch embedded" in ended.stdout
    assert not mark.by("postgres")
