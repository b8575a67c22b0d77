"""What a hostile or merely odd database does to a run: nothing false is ever reported."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.errors import RolledBack, UsageError
from runbook.plan import blockers, review
from runbook.plan.script import script
from runbook.spec import parse_spec
from tests.cases import MOSTLY_OPEN
from tests.conftest import Cluster, Database
from tests.migrating import ONLINE, catalog_of, check, findings_of, migrate, plan_of
from tests.operations.test_specs import EXTENDED, ONLY_RENAME, TICKETS, WITHOUT_RENAME, spec_of
from tests.plan.test_plan import psql
from tests.run.test_atomic import unchanged

TOUCH = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN {change}; RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION touch()",
)


def touching(change: str) -> list[str]:
    """Return the trigger that makes a change to every updated row."""
    return [statement.replace("{change}", change) for statement in TOUCH]


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("more text[] DEFAULT '{{x,y},{z,w}}'", "NEW.more := ARRAY['x','y','z','w']"),
        ("more bpchar DEFAULT 'q  '", "NEW.more := 'q'"),
        ("more float8 DEFAULT 1", "NEW.more := NEW.more + 1e-12"),
        ("more jsonb DEFAULT '{\"n\": 1.0}'", "NEW.more := '{\"n\": 1.00}'"),
        ("more boolean DEFAULT true", "NEW.more := false"),
    ],
    ids=["array bounds", "blanks", "float's last digits", "jsonb number's scale", "boolean"],
)
def test_a_trigger_that_alters_a_value_a_little_fails_the_proof(
    column: str, change: str, empty_newest: Database
) -> None:
    """Under settings of the database that would hide it."""
    empty_newest.execute(
        *TICKETS,
        MOSTLY_OPEN,
        f"ALTER TABLE tickets ADD COLUMN {column}",
        *touching(change),
        "CREATE FUNCTION hash_numeric_extended(numeric, bigint) RETURNS bigint LANGUAGE sql"
        " IMMUTABLE AS 'SELECT 1::bigint'",
        f"ALTER DATABASE {empty_newest.name} SET extra_float_digits = -10",
        f"ALTER DATABASE {empty_newest.name} SET search_path = public, pg_catalog",
    )
    with unchanged(empty_newest), pytest.raises(RolledBack, match="proof failed"):
        migrate(empty_newest, spec_of(WITHOUT_RENAME))


@pytest.fixture
def waiting_for_standby(newest: Cluster) -> Iterator[Database]:
    """A sample database whose server lets no commit return: its standby never answers."""
    made = newest.sample()
    newest.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    newest.execute("SELECT pg_reload_conf()")
    yield made
    newest.execute("ALTER SYSTEM RESET synchronous_standby_names")
    newest.execute("SELECT pg_reload_conf()")
    newest.drop(made)


def test_a_commit_that_is_cancelled_while_it_waits_is_not_reported_as_rolled_back(
    waiting_for_standby: Database,
) -> None:
    """Cancelling the wait for a standby ends it, and the commit stands."""
    opened: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        opened.append(waiting_for_standby.connect())
        return opened[-1]

    results: list[Any] = []
    runner = threading.Thread(
        target=lambda: results.append(migrate(waiting_for_standby, connect=connect))
    )
    runner.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = {}"
    while not opened or not waiting_for_standby.value(waiting.format(opened[0].info.backend_pid)):
        assert runner.is_alive()
    waiting_for_standby.execute(f"SELECT pg_cancel_backend({opened[0].info.backend_pid})")
    runner.join(30)
    assert results[0].proof.passed
    assert waiting_for_standby.value("SELECT to_regclass('llama_logs') IS NOT NULL")


def test_text_that_would_travel_in_another_encoding_is_refused(sample_newest: Database) -> None:
    with unchanged(sample_newest), pytest.raises(UsageError, match="UTF-8 is needed"):
        migrate(sample_newest, connect=lambda: sample_newest.connect(client_encoding="latin1"))


def test_a_title_cannot_put_anything_into_the_script(
    empty_newest: Database, tmp_path: Path
) -> None:
    empty_newest.execute(*TICKETS)
    spec = spec_of(
        ONLY_RENAME.replace(
            'name = "only-rename"',
            'name = "only-rename"\ntitle = "x\\n\\\\! touch smuggled\\nCREATE TABLE smuggled ();"',
        )
    )
    catalog = catalog_of(empty_newest, spec)
    assert (
        catalog.table
        and plan_of(empty_newest, spec).sha256 != plan_of(empty_newest, spec_of(ONLY_RENAME)).sha256
    )
    psql(empty_newest, script(spec, plan_of(empty_newest, spec), catalog.table), tmp_path)
    assert empty_newest.value("SELECT to_regclass('smuggled') IS NULL")
    assert not (tmp_path / "smuggled").exists()


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE enrichment_logs ADD COLUMN money integer DEFAULT 5",
        "CREATE INDEX more ON enrichment_logs (reason)",
        "CREATE RULE more AS ON UPDATE TO enrichment_logs DO ALSO NOTHING",
    ],
)
def test_a_script_refuses_a_table_that_changed_since(
    drift: str, sample: Database, tmp_path: Path
) -> None:
    spec = parse_spec(Path(_llamalog()).read_text(), file="llamalog")
    catalog = catalog_of(sample, spec)
    assert catalog.table
    text = script(spec, plan_of(sample, spec), catalog.table)
    sample.execute(drift)
    with unchanged(sample), pytest.raises(Exception, match="returned non-zero") as caught:
        psql(sample, text, tmp_path)
    assert "not the one that was reviewed" in getattr(caught.value, "stderr", "")


def _llamalog() -> str:
    from importlib.resources import files

    return str(files("runbook").joinpath("specs", "llamalog.toml"))


def test_a_ledger_with_a_trigger_is_a_blocker(sample_newest: Database) -> None:
    migrate(sample_newest)
    sample_newest.execute(
        "ALTER TABLE llama_logs RENAME TO enrichment_logs",
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER evil BEFORE INSERT ON runbook.ledger FOR EACH ROW EXECUTE FUNCTION evil()",
    )
    assert "ledger-foreign" in [finding.code for finding in findings_of(sample_newest)]


def test_a_refusal_after_an_extension_says_that_the_label_stays(empty_newest: Database) -> None:
    empty_newest.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('low', 'high')")
    with empty_newest.connect() as other, other.transaction():
        other.execute("SELECT FROM tickets LIMIT 1")
        with pytest.raises(RolledBack, match="could not be locked") as caught:
            migrate(empty_newest, spec_of(EXTENDED))
    assert "staying: Add label urgent" in caught.value.remedy


def test_a_type_that_the_table_uses_already_can_be_extended(database: Database) -> None:
    database.execute(
        *TICKETS,
        "CREATE TYPE severity AS ENUM ('low', 'high')",
        "ALTER TABLE tickets ADD COLUMN old severity DEFAULT 'low'",
    )
    assert migrate(database, spec_of(EXTENDED)).proof.passed


KEYLESS = "ALTER TABLE tickets DROP CONSTRAINT tickets_pkey"
PUBLISHED = "CREATE PUBLICATION p FOR TABLE tickets"
TYPED = "CREATE TYPE ticket AS (id int, state text, priority int, price numeric)"

BLOCKED: dict[str, tuple[str, tuple[str, ...]]] = {
    "a rule": (
        "rewrite-rule",
        ("CREATE RULE r AS ON UPDATE TO tickets DO ALSO DELETE FROM tickets",),
    ),
    "the index's name": ("name-taken", ("CREATE SEQUENCE tickets_state_2_priority_idx",)),
    "published without a key": ("no-replica-identity", (KEYLESS, PUBLISHED)),
    "published with a key that is checked later": (
        "no-replica-identity",
        (f"{KEYLESS}, ADD PRIMARY KEY (id) DEFERRABLE", PUBLISHED),
    ),
    "published with an identity that is gone": (
        "no-replica-identity",
        (
            "CREATE UNIQUE INDEX identity ON tickets (id)",
            "ALTER TABLE tickets REPLICA IDENTITY USING INDEX identity",
            "DROP INDEX identity",
            PUBLISHED,
        ),
    ),
    "a row filter beside the key": (
        "published-in-part",
        (f"{PUBLISHED} WHERE (state = 'open' AND id > 0)",),
    ),
    "a list of columns without the key": ("published-in-part", (f"{PUBLISHED} (state)",)),
    "a list of columns where all identify": (
        "published-in-part",
        ("ALTER TABLE tickets REPLICA IDENTITY FULL", f"{PUBLISHED} (id, state, priority)"),
    ),
    "a typed table": (
        "typed-table",
        ("DROP TABLE tickets", TYPED, "CREATE TABLE tickets OF ticket"),
    ),
    "a column of its row type": ("row-type-used", ("CREATE TABLE log (old tickets)",)),
    "a column made of its row type": (
        "row-type-used",
        (
            "CREATE DOMAIN several AS tickets[]",
            "CREATE TYPE entry AS (at date, old several)",
            "CREATE TABLE log (id int, entries entry[])",
        ),
    ),
    "a materialized view of whole rows": (
        "row-type-used",
        ("CREATE MATERIALIZED VIEW log AS SELECT tickets FROM tickets",),
    ),
    "a constraint that rows violate": (
        "constraint-not-valid",
        (MOSTLY_OPEN, "ALTER TABLE tickets ADD CHECK (id % 10 <> 0) NOT VALID"),
    ),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_what_would_fail_or_do_harm_in_the_run_is_found_in_the_review(
    name: str, database: Database
) -> None:
    code, prepared = BLOCKED[name]
    database.execute(*TICKETS, *prepared)
    found = findings_of(database, spec_of(WITHOUT_RENAME))
    assert code in [one.code for one in found if one.level == "blocker"]


@pytest.mark.parametrize(
    "prepared",
    [
        (f"{PUBLISHED} (id, state) WHERE (id > 0)",),
        (f"{PUBLISHED} (state) WITH (publish = 'insert')",),
        ("ALTER TABLE tickets REPLICA IDENTITY FULL", f"{PUBLISHED} WHERE (state = 'open')"),
        ("CREATE FUNCTION f(tickets) RETURNS tickets LANGUAGE sql AS 'SELECT $1'",),
        ("CREATE VIEW log AS SELECT tickets FROM tickets",),
    ],
    ids=["list and filter with the key", "inserts only", "all identify", "function", "view"],
)
def test_what_does_no_harm_is_migrated(prepared: tuple[str, ...], database: Database) -> None:
    database.execute(*TICKETS, MOSTLY_OPEN, *prepared)
    assert migrate(database, spec_of(WITHOUT_RENAME)).proof.passed


def test_the_name_that_not_null_will_have_is_free(empty_newest: Database) -> None:
    """PostgreSQL 18 keeps it when a column is renamed, as the review may have advised."""
    empty_newest.execute(
        *TICKETS,
        "ALTER TABLE tickets ADD COLUMN state_2 integer NOT NULL DEFAULT 0",
        "ALTER TABLE tickets RENAME COLUMN state_2 TO state_old",
    )
    spec = spec_of(WITHOUT_RENAME)
    found = [one for one in findings_of(empty_newest, spec) if one.code == "name-taken"]
    assert [one.object for one in found] == ["public.tickets.tickets_state_2_not_null"]
    empty_newest.execute(
        "ALTER TABLE tickets RENAME CONSTRAINT tickets_state_2_not_null TO other_not_null"
    )
    assert migrate(empty_newest, spec).proof.passed


def test_a_constraint_that_is_not_enforced_holds_nobody_back(empty_newest: Database) -> None:
    empty_newest.execute(
        *TICKETS, MOSTLY_OPEN, "ALTER TABLE tickets ADD CHECK (id % 10 <> 0) NOT ENFORCED"
    )
    spec = spec_of(WITHOUT_RENAME)
    assert not blockers(review(spec, catalog_of(empty_newest, spec), ONLINE))
    assert migrate(empty_newest, spec).proof.passed


def test_an_index_that_would_get_the_tables_new_name_is_a_blocker(empty_newest: Database) -> None:
    """Cut at 63 bytes, where the new name fills them all."""
    empty_newest.execute("CREATE TABLE tickets (id integer PRIMARY KEY)")
    spec = spec_of(ONLY_RENAME.replace("issues", "x" * 63))
    (found,) = blockers(findings_of(empty_newest, spec))
    assert found.code == "dependent-name-taken" and "by a table" in found.message


def test_an_enum_cannot_be_indexed_by_every_method(empty_newest: Database) -> None:
    empty_newest.execute(*TICKETS)
    columns = 'columns = ["state_2", "priority"]'
    spec = spec_of(WITHOUT_RENAME.replace(columns, 'columns = ["state_2"]\nmethod = "brin"'))
    assert "no-operator-class" in [one.code for one in findings_of(empty_newest, spec)]
    spec = spec_of(WITHOUT_RENAME.replace(columns, 'columns = ["state_2"]\nmethod = "hash"'))
    assert migrate(empty_newest, spec).proof.passed


def test_columns_named_like_the_querys_own_names(database: Database) -> None:
    database.execute(
        "CREATE TABLE tickets (label text, n integer, matches json, state text)",
        "INSERT INTO tickets VALUES ('a', 1, '{}', 'open'), ('b', 2, NULL, NULL)",
    )
    text = WITHOUT_RENAME.replace('column = "state", like', 'column = "label", like')
    text = text.replace(
        '{ column = "state", is_null = true }', '{ column = "matches", is_null = true }'
    )
    spec = spec_of(text.replace('"priority"', '"n"'))
    assert migrate(database, spec).proof.passed
    assert all(result.passed for result in check(database, spec).values())


def test_keys_that_were_never_validated_fail_no_check(database: Database) -> None:
    database.execute(
        *TICKETS,
        *(
            f"ALTER TABLE tickets ADD CONSTRAINT {name} FOREIGN KEY (priority)"
            " REFERENCES tickets NOT VALID"
            for name in ("tickets_b_fkey", "a_fkey")
        ),
    )
    spec = spec_of(ONLY_RENAME)
    migrate(database, spec)
    assert all(result.passed for result in check(database, spec).values())
    database.execute("ALTER TABLE issues DROP CONSTRAINT a_fkey")
    assert all(result.passed for result in check(database, spec).values())


def test_an_application_that_writes_on_fails_no_check(sample_newest: Database) -> None:
    migrate(sample_newest)
    stop = threading.Event()

    def write() -> None:
        with sample_newest.connect() as connection:
            while not stop.is_set():
                connection.execute(
                    "INSERT INTO llama_logs (operation, status, category)"
                    " VALUES ('cache:x', 'SUCCESS', 'CACHED')"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert all(result.passed for result in check(sample_newest).values())
    finally:
        stop.set()
        writer.join()
