"""The inventory: everything around a table is in it, each with what becomes of it."""

from typing import Any

from runbook.facts import Kind
from runbook.plan import Options
from runbook.plan.inventory import Entry, inventory
from runbook.spec import Spec
from tests.cases import PARTITIONED, RENAMED
from tests.conftest import Cluster, Database
from tests.migrating import catalog_of
from tests.operations.test_specs import ONLY_CLASSIFY, TICKETS, spec_of

EVERYTHING = (
    *TICKETS,
    "CREATE TABLE users (id integer PRIMARY KEY)",
    "ALTER TABLE tickets ADD owner integer REFERENCES users",
    "ALTER TABLE tickets ADD double integer GENERATED ALWAYS AS (priority * 2) STORED",
    "CREATE TABLE votes (ticket integer CONSTRAINT votes_for REFERENCES tickets)",
    "CREATE VIEW open AS SELECT * FROM tickets",
    "CREATE VIEW opener AS SELECT * FROM open",
    "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM tickets",
    "CREATE FUNCTION parsed() RETURNS bigint LANGUAGE sql"
    " BEGIN ATOMIC SELECT count(*) FROM tickets; END",
    "CREATE PROCEDURE named() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM tickets; END $$",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER audit BEFORE DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE TRIGGER asleep BEFORE DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION f()",
    "ALTER TABLE tickets DISABLE TRIGGER asleep",
    "CREATE RULE also AS ON INSERT TO votes DO ALSO SELECT count(*) FROM tickets",
    "CREATE POLICY mine ON tickets USING (true)",
    "CREATE POLICY theirs ON votes USING (EXISTS (SELECT FROM tickets WHERE id = ticket))",
    "CREATE PUBLICATION news FOR TABLE tickets",
    "CREATE SUBSCRIPTION feed CONNECTION 'host=/nowhere' PUBLICATION p"
    " WITH (connect = false, slot_name = NONE)",
    "INSERT INTO pg_subscription_rel SELECT s.oid, 'tickets'::regclass, 'r', NULL"
    " FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
    " WHERE d.datname = current_database()",
    "ALTER TABLE tickets REPLICA IDENTITY FULL",
    "CREATE TABLE parent (state text)",
    "ALTER TABLE tickets INHERIT parent",
    "CREATE TABLE child () INHERITS (tickets)",
    "CREATE STATISTICS by_state ON state, priority FROM tickets",
    "GRANT SELECT ON tickets TO pg_monitor",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO pg_monitor",
    "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
    "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION e()",
    "ALTER EXTENSION plpgsql ADD TABLE tickets",
    "CREATE TABLE alembic_version (version_num text)",
    "COMMENT ON COLUMN tickets.state IS 'as people write it'",
)


def entries(database: Database, spec: Spec, **options: Any) -> dict[tuple[str, str], Entry]:
    """Return the inventory: kind and name → entry."""
    found = inventory(spec, catalog_of(database, spec), Options(**options))
    return {(one.kind, one.name): one for one in found}


def test_each_kind_of_dependent_is_found_with_its_fate(cluster: Cluster) -> None:
    database, renaming = cluster.make(), spec_of(RENAMED)
    try:
        database.execute(*EVERYTHING)
        found = entries(database, renaming)
        elsewhere = {Kind.STATEMENT, Kind.PARTITION, Kind.OTHER}
        assert {kind for kind, _ in found} == set(Kind) - elsewhere
        assert all(one.fate for one in found.values())
        view, text = ("view", "public.open"), ("function's text", "public.named()")
        assert found[view].fate.startswith("follows")
        assert ("view", "public.opener") in found, "a view upon a view"
        assert found[text].fate == "breaks at its next call"
        assert "line 1: BEGIN DELETE FROM tickets; END" in found[text].detail
        assert found["function", "public.parsed()"].fate.startswith("follows")
        assert found["trigger", "asleep"].fate == "stays on the table, disabled"
        assert ("policy", "theirs on public.votes") in found
        assert ("rule", "also on public.votes") in found
        assert "REFERENCES public.tickets" in found["foreign key to it", "votes_for"].detail
        assert found["comment", "column state"].detail == "as people write it"

        kept = entries(database, renaming, old_name_view=True)
        assert "until that is dropped" in kept[text].fate
        staying = entries(database, spec_of(ONLY_CLASSIFY))
        assert staying[text].fate == staying[view].fate == "stays as it is"
    finally:
        database.execute("DROP SUBSCRIPTION feed")
        cluster.drop(database)


def test_what_nobody_thought_of_is_shown_as_well(empty_newest: Database) -> None:
    empty_newest.execute(
        *TICKETS,
        'CREATE COLLATION odd FROM "C"',
        # No statement makes a collation depend on a table; a later version's may make something.
        "INSERT INTO pg_depend SELECT 'pg_collation'::regclass, oid, 0, 'pg_class'::regclass,"
        " 'tickets'::regclass, 0, 'n' FROM pg_collation WHERE collname = 'odd'",
    )
    found = entries(empty_newest, spec_of(RENAMED))
    assert found["other dependent", "collation public.odd"].fate.startswith("follows")


def test_partitions_are_in_it(empty_newest: Database) -> None:
    empty_newest.execute(*PARTITIONED)
    found = entries(empty_newest, spec_of(RENAMED))
    assert {name for kind, name in found if kind == "partition"} == {
        "public.tickets_1", "public.Tickets 2", "public.tickets_rest",
    }  # fmt: skip


def test_sessions_and_prepared_transactions_are_in_it(empty_newest: Database) -> None:
    empty_newest.execute(
        *TICKETS, "BEGIN; DELETE FROM tickets WHERE id = 1; PREPARE TRANSACTION 'left'"
    )
    spec = spec_of(ONLY_CLASSIFY)
    try:
        with empty_newest.connect() as connection, connection.transaction():
            connection.execute("SELECT")
            found = {kind: one for (kind, _), one in entries(empty_newest, spec).items()}
        assert found["prepared transaction"].fate == "is in the way: it holds a lock"
        assert "idle in transaction" in found["session"].detail
    finally:
        empty_newest.execute("ROLLBACK PREPARED 'left'")
