"""A copy of the whole database, made with the connected role's rights: nobody's code runs by it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.catalog import read_catalog
from runbook.database import resolve
from runbook.errors import BlockedError
from runbook.rehearsal.copy import Scratch, Tell
from runbook.rehearsal.in_database import copied
from runbook.spec import parse_spec
from tests.conftest import Cluster
from tests.trust.owners import SPEC, Owned, owned
from tests.trust.test_owner_code import PURE, Mark

DOMAIN = "CREATE DOMAIN app.few AS text CHECK ({check})"
HARMLESS = "VALUE ~ '^[a-z]'"
HARMFUL = (
    "CASE WHEN current_setting('is_superuser') = 'on'"
    " THEN query_to_xml('SELECT 1', true, true, '') IS NOT NULL ELSE true END"
)
"""Calls no function of its owner's."""

TEXTS = (
    "CREATE TYPE app.pair AS (a app.few, b text)",
    "CREATE VIEW app.v AS SELECT '(x,y)'::app.pair AS pair, '{x}'::app.few[] AS many",
    "CREATE RULE r AS ON UPDATE TO app.v DO INSTEAD SELECT '(x,y)'::app.pair AS pair",
    "CREATE DOMAIN app.more AS app.pair DEFAULT '(x,y)'",
)
"""What has a value of the domain made where it is defined; no table has a column of it."""


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


def scratch(place: Owned, tell: Tell = lambda text: None) -> Scratch:
    """Return what a superuser would copy."""
    spec = parse_spec(SPEC, file="sorting.toml")
    with place.database.session() as connection:
        catalog = read_catalog(connection, spec)
    return Scratch(
        source=resolve(place.database.url),
        connect=place.database.session,
        spec=spec,
        catalog=catalog,
        rows=0,
        tell=tell,
    )


def test_no_copy_is_made_where_a_value_in_a_text_would_run_code(place: Owned) -> None:
    wanted = scratch(place)
    place.as_owner(DOMAIN.format(check=HARMFUL), *TEXTS)
    refused = pytest.raises(BlockedError, match=r"few_check of app\.few calls query_to_xml")
    with refused, copied(wanted):
        pass
    left = "SELECT count(*) FROM pg_database WHERE starts_with(datname, 'runbook_rehearsal_')"
    assert place.database.value(left) == 0


def test_a_domain_whose_check_only_compares_is_copied(place: Owned) -> None:
    place.as_owner(DOMAIN.format(check=HARMLESS), *TEXTS)
    with copied(scratch(place)) as copy, copy.connect() as connection:
        assert connection.execute("SELECT pair::text FROM app.v").fetchall() == [("(x,y)",)]


def test_what_comes_after_the_look_is_not_copied(place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)

    def tell(text: str) -> None:
        if text == "copying the schema":
            check = "app.pure(1) = 1"
            place.as_owner(*mark.in_((PURE,)), DOMAIN.format(check=check), *TEXTS)

    with copied(scratch(place, tell)) as copy, copy.connect() as connection:
        assert connection.execute("SELECT to_regtype('app.few')").fetchall() == [(None,)]
    assert mark.by(place.owner) and not mark.by("postgres")
