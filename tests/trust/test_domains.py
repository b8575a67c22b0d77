"""Domains over the types of extensions, and types with a domain in them: what an owner makes of
them is never called by a rule that looks at such a column."""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook.catalog import read_catalog
from runbook.plan import Options, build_plan
from runbook.run import apply_atomic
from runbook.spec import parse_spec
from tests.conftest import Cluster
from tests.trust.owners import DOMAINS, NOCASE, ON_DOMAINS, Owned, on_domains, owned
from tests.trust.test_owner_code import MODES, Mark, Mode, apply, options

TEXT = on_domains()
PARSED = parse_spec(TEXT, file="sorting.toml")
LOGS = "LANGUAGE plpgsql AS $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN true; END $$"
OVERLOADS = (
    *(
        f"CREATE FUNCTION app.nocase_{name}({left}, {right}) RETURNS boolean {LOGS}"
        for name in ("eq", "like")
        for left in ("app.nick", "app.nick2")
        for right in ("app.nocase", "app.nick", "app.nick2")
    ),
    *(
        f"CREATE FUNCTION app.noted(text, {domain}) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN 'n'; END $$"
        for domain in ("app.nick", "app.nick2")
    ),
    *(
        f"CREATE AGGREGATE app.nocase_out({domain})"
        " (SFUNC = app.noted, STYPE = text, FINALFUNC = textout)"
        for domain in ("app.nick", "app.nick2")
    ),
)
"""Functions and an aggregate that fit a column of a domain better than the type's own."""

SPOILED = (
    "CREATE FUNCTION app.spoils(text) RETURNS boolean " + LOGS,
    *(
        f"ALTER DOMAIN app.{domain} ADD CHECK (app.spoils(VALUE::text)) NOT VALID"
        for domain in ("nick", "nick2", "few")
    ),
)
"""Constraints of domains, for which no lock on a table is waited for."""


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path, TEXT) as made:
        made.database.execute(*NOCASE)
        made.as_owner(*DOMAINS)
        yield made


@pytest.mark.parametrize("mode", MODES)
def test_no_overload_on_a_domain_is_called(mode: Mode, place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)
    place.as_owner(*mark.in_(OVERLOADS))
    with place.database.session() as connection:
        found = read_catalog(connection, PARSED)
    assert found.owner_code == () and found.census is not None
    assert found.census.predicted["odd"] >= 150
    apply(place, build_plan(PARSED, found, options(mode)), found, spec=PARSED)
    assert place.run("verify", "--spec", "sorting.toml").returncode == 0
    assert place.run("rollback", "--spec", "sorting.toml").returncode == 0
    assert not mark.by("postgres")
    with place.database.connect() as connection:  # they would be, where nothing is cast
        connection.execute("SELECT app.nocase_eq(nick2, 'n3'::app.nocase) FROM app.tickets")
    assert mark.by("postgres")


@pytest.mark.parametrize("column", ON_DOMAINS)
def test_each_column_is_compared_with_what_is_stored(column: str, place: Owned) -> None:
    spec = parse_spec(on_domains([column]), file="sorting.toml")
    with place.database.session() as connection:
        census = read_catalog(connection, spec).census
    assert census is not None
    assert census.rules[0].takes == 150


def apply_with(place: Owned, statements: Iterable[str], **more: Any) -> None:
    """Apply the plan, and have the owner execute statements once the locked table was looked at."""
    with place.database.session() as connection:
        found = read_catalog(connection, PARSED)
    plan = build_plan(PARSED, found, Options(mode="atomic", lock_timeout_ms=300, **more))
    added: list[bool] = []

    def progress(text: str) -> None:
        if not added and "count" in text.lower() and place.database.value(LOCKED):
            added.append(True)
            place.as_owner(*statements)

    apply_atomic(
        place.database.session,
        PARSED,
        found,
        plan,
        run_id=uuid.uuid4(),
        wait_ms=300,
        progress=progress,
    )
    assert added


LOCKED = """\
SELECT count(*) FROM pg_locks
WHERE granted AND mode = 'AccessExclusiveLock' AND relation = to_regclass('app.tickets')"""


@pytest.mark.parametrize("view", [False, True])
def test_a_domains_check_that_comes_under_the_lock_is_not_run(
    view: bool, place: Owned, newest: Cluster
) -> None:
    """Nor by verification and rollback, which write nothing and do not refuse it."""
    mark = Mark(newest)
    place.as_owner("ALTER TABLE app.tickets ALTER pair SET DEFAULT '(n5,x)'")
    apply_with(place, mark.in_(SPOILED), old_name_view=view)
    for command in ("verify", "rollback"):
        ended = place.run(command, "--spec", "sorting.toml")
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not mark.by("postgres")
    with place.database.connect() as connection:  # the trap is set
        connection.execute("SELECT '(n5,x)'::app.pair")
    assert mark.by("postgres")


def test_an_attribute_that_a_composite_type_takes_under_the_lock_is_not_read(
    place: Owned, newest: Cluster
) -> None:
    """Whether or not the type had a domain in it."""
    mark = Mark(newest)
    place.as_owner(
        "ALTER TABLE app.tickets DROP pair, DROP pairs",
        "DROP TYPE app.pair",
        "CREATE TYPE app.pair AS (a text, b text)",
        "ALTER TABLE app.tickets ADD pair app.pair, ADD pairs app.pair[]",
    )
    swap = (
        "ALTER TYPE app.pair DROP ATTRIBUTE b",
        "ALTER TYPE app.pair ADD ATTRIBUTE c app.nick",
    )
    apply_with(place, (*mark.in_(SPOILED), *swap))
    assert not mark.by("postgres")


def test_a_review_reads_no_literal_as_a_type_with_a_domain(place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)
    place.as_owner(*mark.in_(SPOILED))
    ended = place.run("review", "--spec", "sorting.toml")
    assert ended.returncode == 3 and "code of role" in ended.stdout
    assert not mark.by("postgres")
