"""A pooler between is found, and its mode: tried against a real PgBouncer."""

import pytest

from runbook.catalog import read_catalog
from runbook.errors import RefusedError
from runbook.facts import Catalog
from runbook.plan import Options, review
from runbook.spec import load_spec
from tests.conftest import Database
from tests.migrating import catalog_of, migrate, migrate_online
from tests.pgbouncer import pooled
from tests.run.test_atomic import unchanged

SPEC = load_spec("llamalog")


def catalog_through(database: Database) -> Catalog:
    with database.connect() as connection:
        return read_catalog(connection, SPEC, connect=database.connect)


@pytest.mark.parametrize("round_robin", [False, True], ids=["last in first out", "round robin"])
def test_a_pooler_in_transaction_mode_is_found(
    sample_newest: Database, *, round_robin: bool
) -> None:
    with pooled(sample_newest, "transaction", round_robin=round_robin) as through:
        # Several sessions of the server, as in a pool that is in use.
        with (
            through.connect() as one,
            through.connect() as other,
            one.transaction(),
            other.transaction(),
        ):
            one.execute("SELECT")
            other.execute("SELECT")
        assert catalog_through(through).pooler == "transaction"


def test_a_pooler_in_session_mode_is_found(sample_newest: Database) -> None:
    with pooled(sample_newest, "session") as through:
        assert catalog_through(through).pooler == "session"


def test_the_server_itself_is_no_pooler(sample: Database) -> None:
    assert catalog_through(sample).pooler is None


def test_it_forbids_the_online_mode_and_warns_of_the_atomic_one(sample_newest: Database) -> None:
    with pooled(sample_newest, "transaction") as through:
        catalog = catalog_through(through)
    levels = {
        mode: [
            one.level.value
            for one in review(SPEC, catalog, Options(mode=mode))
            if one.code == "pooler"
        ]
        for mode in ("online", "atomic")
    }
    assert levels == {"online": ["blocker"], "atomic": ["warning"]}


def test_an_online_run_through_a_pooler_is_refused_and_changes_nothing(
    sample_newest: Database,
) -> None:
    with (
        pooled(sample_newest, "transaction") as through,
        unchanged(sample_newest),
        pytest.raises(RefusedError, match="goes through a pooler"),
    ):
        migrate_online(through)


def test_an_atomic_run_through_a_pooler_is_proved_as_any(sample_newest: Database) -> None:
    with pooled(sample_newest, "transaction") as through:
        assert migrate(through).proof.passed
    applied = catalog_of(sample_newest).applied
    assert applied is not None and applied.rows == 4052
