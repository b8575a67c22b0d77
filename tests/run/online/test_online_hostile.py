"""What a hostile or merely odd database does to an online run: it says so, or it copes."""

from typing import Any

import pytest

from runbook.errors import RefusedError, Stopped
from runbook.plan import Options, blockers, review
from runbook.run.online import Limits
from tests.cases import PARTITIONED, RENAMED
from tests.conftest import Database
from tests.migrating import ONLINE, catalog_of, check, migrate_online, take_back
from tests.operations.test_specs import TICKETS, WITHOUT_RENAME, spec_of
from tests.run.online.test_online import at

SPEC = spec_of(WITHOUT_RENAME)


@pytest.fixture
def tickets(database: Database) -> Database:
    database.execute(*TICKETS)
    return database


def assert_done(database: Database, spec: Any = SPEC) -> None:
    assert [one for one in check(database, spec).values() if not one.passed] == []


def codes(database: Database, spec: Any = SPEC, options: Options = ONLINE) -> list[str]:
    found = blockers(review(spec, catalog_of(database, spec), options))
    return [finding.code for finding in found]


def test_triggers_that_were_disabled_meanwhile_stop_it_before_the_cutover(
    tickets: Database,
) -> None:
    """As a bulk load does, and enables them again in another way than they were."""

    def load() -> None:
        tickets.execute(
            "ALTER TABLE tickets DISABLE TRIGGER USER",
            "INSERT INTO tickets (state) VALUES ('done'), ('done')",
            "ALTER TABLE tickets ENABLE TRIGGER USER",
        )

    with at("index", "begins", load) as tell, pytest.raises(Stopped, match="was for a while"):
        migrate_online(tickets, SPEC, tell=tell)
    tickets.execute(
        'ALTER TABLE tickets ENABLE ALWAYS TRIGGER "~runbook_insert_state_2"',
        'ALTER TABLE tickets ENABLE ALWAYS TRIGGER "~runbook_update_state_2"',
    )
    migrate_online(tickets, SPEC)
    assert_done(tickets)


def test_a_label_that_somebody_set_by_hand_is_set_right(tickets: Database) -> None:
    def meddle() -> None:
        tickets.execute("UPDATE tickets SET state_2 = 'closed' WHERE id <= 3")

    with at("index", "begins", meddle) as tell:
        migrate_online(tickets, SPEC, tell=tell)
    assert_done(tickets)


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_a_trigger_that_fires_after_ours_is_refused(event: str, tickets: Database) -> None:
    """Names are sorted by their bytes: a letter beyond ASCII comes last."""
    tickets.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.state := upper(NEW.state); RETURN NEW; END $$",
        f'CREATE TRIGGER "über" BEFORE {event} ON tickets FOR EACH ROW EXECUTE FUNCTION shout()',
    )
    assert codes(tickets) == ["trigger-fires-later"]
    tickets.execute('ALTER TRIGGER "über" ON tickets RENAME TO early')
    assert codes(tickets) == []


def test_a_constraint_that_old_rows_may_violate_is_refused(tickets: Database) -> None:
    tickets.execute("ALTER TABLE tickets ADD CHECK (priority > 0) NOT VALID")
    assert codes(tickets) == ["constraint-not-valid"]


AT = WITHOUT_RENAME.replace(
    '{ column = "state", like = ["open%", "Open%"] }',
    '{ column = "at", like = "2024-06-01 00:%" }',
)


def test_the_rules_mean_the_same_whatever_the_writers_settings_are(tickets: Database) -> None:
    spec = spec_of(AT)
    tickets.execute("ALTER TABLE tickets ADD COLUMN at timestamptz")

    def write() -> None:
        with tickets.connect() as writer:
            writer.execute("SET TimeZone = 'America/New_York'")
            writer.execute("SET DateStyle = 'German'")
            writer.execute("INSERT INTO tickets (at) VALUES ('2024-06-01 00:30+00')")
        label = "SELECT state_2::text FROM tickets WHERE at IS NOT NULL"
        assert tickets.value(label) == "open"  # at once, and not by the sweep

    with at("backfill", "begins", write) as tell:
        migrate_online(tickets, spec, tell=tell)
    assert_done(tickets, spec)
    assert tickets.value("SELECT state_2::text FROM tickets WHERE at IS NOT NULL") == "open"


def test_a_row_that_others_refer_to_meanwhile_is_not_waited_for(tickets: Database) -> None:
    """They lock its key, and the backfill leaves keys alone."""
    tickets.execute("CREATE TABLE notes (ticket integer REFERENCES tickets)")
    child = tickets.connect()

    def refer() -> None:
        child.execute("BEGIN")
        child.execute("INSERT INTO notes SELECT id FROM tickets WHERE state = 'done'")

    with child, at("backfill", "begins", refer) as tell:
        told: list[str] = []

        def listen(phase: Any, text: str, share: float) -> None:
            told.append(f"{phase}: {text}")
            tell(phase, text, share)
            if phase == "index":
                child.execute("COMMIT")

        migrate_online(tickets, SPEC, tell=listen)
    assert "cutover: begins" in told and not any("left out" in one for one in told)
    assert_done(tickets)


def test_an_index_that_is_there_already_is_never_taken_for_the_runs_own(
    database: Database,
) -> None:
    """Of somebody else's, under the name that the run gives to a partition's."""
    database.execute(*PARTITIONED, "CREATE TYPE ticket_state AS ENUM ('open', 'closed', 'unknown')")
    spec = spec_of(RENAMED.replace('columns = ["state_2", "priority"]', 'columns = ["priority"]'))
    database.execute("DROP INDEX tickets_priority_idx")
    database.execute("CREATE TABLE other (priority integer)")
    database.execute("CREATE INDEX tickets_1_priority_idx ON other (priority)")
    with pytest.raises(RefusedError, match="tickets_1_priority_idx: its name is taken"):
        migrate_online(database, spec)
    assert database.value("SELECT to_regclass('tickets_1_priority_idx') IS NOT NULL")


def test_a_partition_that_is_renamed_meanwhile_is_named(database: Database) -> None:
    database.execute(*PARTITIONED)
    spec = spec_of(RENAMED)

    def rename() -> None:
        database.execute("ALTER TABLE tickets_1 RENAME TO first")

    with at("index", "begins", rename) as tell, pytest.raises(Stopped, match="first had another"):
        migrate_online(database, spec, tell=tell)
    database.execute("ALTER TABLE first RENAME TO tickets_1")
    migrate_online(database, spec)
    assert_done(database, spec)


def test_definitions_are_compared_under_the_same_settings(tickets: Database) -> None:
    """A constant of an index is printed in the session's time zone."""
    tickets.execute(
        "ALTER TABLE tickets ADD COLUMN at timestamptz",
        "CREATE INDEX late ON tickets (id) WHERE at > '2020-01-01 00:00+00'",
        f"ALTER DATABASE {tickets.name} SET TimeZone = 'America/New_York'",
    )
    migrate_online(tickets, SPEC)
    assert_done(tickets)


def test_a_batch_that_cannot_lock_the_table_says_who_is_in_the_way(tickets: Database) -> None:
    with tickets.connect(application_name="reindex") as other:

        def lock() -> None:
            other.execute("BEGIN")
            other.execute("LOCK TABLE tickets IN SHARE MODE")

        with (
            at("backfill", "begins", lock) as tell,
            pytest.raises(Stopped, match=r"Batches could not lock the table.*'reindex'"),
        ):
            migrate_online(tickets, SPEC, tell=tell, limits=Limits(max_wait_ms=500))
    assert migrate_online(tickets, SPEC).proof.passed


def test_a_writer_without_rights_on_the_schema_goes_on(tickets: Database) -> None:
    """It comes by a view of another schema, whose owner has them."""
    role = f"web_{tickets.name}"
    tickets.execute(
        f"CREATE ROLE {role} LOGIN",
        "REVOKE ALL ON SCHEMA public FROM public",
        "CREATE SCHEMA api",
        "CREATE VIEW api.tickets AS SELECT id, state FROM public.tickets",
        f"GRANT USAGE ON SCHEMA api TO {role}",
        f"GRANT ALL ON api.tickets TO {role}",
    )

    def write() -> None:
        with tickets.connect(user=role) as writer:
            writer.execute("INSERT INTO api.tickets (id, state) VALUES (-1, 'done')")
        assert tickets.value("SELECT state_2::text FROM tickets WHERE id = -1") == "closed"

    try:
        with at("backfill", "begins", write) as tell:
            migrate_online(tickets, SPEC, tell=tell)
        assert_done(tickets)
    finally:
        tickets.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_timeouts_of_the_role_do_not_end_it(tickets: Database) -> None:
    settings = ["idle_in_transaction_session_timeout = '200ms'", "idle_session_timeout = '200ms'"]
    if tickets.major >= 17:
        settings.append("transaction_timeout = '500ms'")
    reader = tickets.connect()
    tickets.execute(*(f"ALTER DATABASE {tickets.name} SET {one}" for one in settings))

    def read() -> None:
        reader.execute("SET idle_in_transaction_session_timeout = 0")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM tickets LIMIT 1")

    def tell_back(phase: Any, text: str, share: float) -> None:
        waiting(phase, text, share)
        if "try 4" in text:
            reader.execute("ROLLBACK")

    with reader, at("cutover", "begins", read) as waiting:
        migrate_online(tickets, SPEC, tell=tell_back)
    assert_done(tickets)


def test_an_interrupt_right_after_the_commit_is_not_told_as_a_rollback(tickets: Database) -> None:
    from runbook.run.online import Journal

    class Interrupted(list[Any]):
        def append(self, one: Any) -> None:
            super().append(one)
            if one.got:
                raise KeyboardInterrupt

    journal = Journal()
    journal.lock_tries = Interrupted()
    with pytest.raises(Stopped, match="interrupted"):
        migrate_online(tickets, SPEC, journal=journal)
    assert catalog_of(tickets, SPEC).unfinished is not None
    assert take_back(tickets, SPEC).rows == 0
