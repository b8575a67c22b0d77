"""The table of prepared databases: what is in each, and exactly the findings that it must give.

What is not listed must not be found: a finding too many fails as one too few does. `B`, `W` and `N`
stand for blocker, warning and note.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cases import MOSTLY_OPEN, ONLY_INDEXES, PARTITIONED, RENAMED, SEVERITY
from tests.operations.test_specs import (
    EXTENDED,
    ONLY_CLASSIFY,
    ONLY_RENAME,
    TICKETS,
    WITHOUT_RENAME,
)

RENAME, PLAIN = RENAMED, WITHOUT_RENAME
LLAMALOG = None
"""The shipped spec, on the real table's shape with the sample's 4,052 rows."""

SHAPE = ("W otherwise-exceeded", "N rule-takes-nothing", "N index-name")
"""What the real table's shape gives by itself: 266 rows that no rule takes, none FAILED,
and the name of the index that Prisma would not derive."""


GONE = "UPDATE tickets SET state = 'gone' WHERE state IS NULL"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A database as it is found in the wild."""

    finds: tuple[str, ...]
    """Exactly these, each as its level's letter and its code."""
    made: tuple[str, ...] = ()
    """What is done to the tickets of `spec`, or to the sample."""
    spec: str | None = RENAME
    tickets: tuple[str, ...] = (*TICKETS, GONE)
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    """Who reviews it, made and named by `made`; else a superuser."""
    held: tuple[str, ...] = ()
    """What another session has done in a transaction that is still open."""
    busy: str = ""
    """A statement that another session is at work on."""
    undone: tuple[str, ...] = ()
    """What has to go before the database can be dropped."""
    says: str = ""
    """A part of the first finding's message."""


def atomic(**options: Any) -> dict[str, Any]:
    """Return options of the atomic mode."""
    return {"mode": "atomic", **options}


def indexed(columns: str) -> str:
    """Return the plain spec with another index."""
    return PLAIN.replace('columns = ["state_2", "priority"]', f"columns = {columns}")


UNNAMED = (
    "CREATE TABLE tickets (state text, price numeric)",
    "INSERT INTO tickets VALUES ('open', 1)",
)
"""Tickets without anything that carries the table's name."""

ONLINE = {"mode": "online"}
VIEW = {"old_name_view": True}

TRIGGER_FUNCTION = (
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$"
)
ON_UPDATE = "CREATE TRIGGER t BEFORE UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION f()"
AFTER_INSERT = "CREATE TRIGGER t AFTER INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION f()"
PUBLISHED = "CREATE PUBLICATION p FOR TABLE tickets"

IN_DATABASE = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {}', current_database()); END $$"
SUBSCRIBED = (
    "CREATE SUBSCRIPTION s CONNECTION 'host=/nowhere dbname=none' PUBLICATION p"
    " WITH (connect = false, slot_name = NONE)",
    "INSERT INTO pg_subscription_rel SELECT s.oid, 'tickets'::regclass, 'r', NULL"
    " FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
    " WHERE d.datname = current_database()",
)

PREPARED: Mapping[str, Prepared] = {
    # -- nothing to find -----------------------------------------------------------------------
    "the real table's shape": Prepared(spec=LLAMALOG, finds=SHAPE),
    "the real table's shape, online": Prepared(spec=LLAMALOG, options=ONLINE, finds=SHAPE),
    "the real table's shape, with a view": Prepared(spec=LLAMALOG, options=VIEW, finds=SHAPE),
    "tickets": Prepared(finds=()),
    "tickets, without rename": Prepared(spec=PLAIN, finds=()),
    "tickets, by sha256": Prepared(options={"proof": "sha256"}, finds=()),
    "tickets, partitioned": Prepared(tickets=(*PARTITIONED, GONE), finds=()),
    "a function that names another table": Prepared(
        made=(
            "CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS"
            " $$ BEGIN RETURN (SELECT count(*) FROM old_tickets_2); END $$",
        ),
        finds=(),
    ),
    "a function that names it in a comment": Prepared(
        made=(
            "CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS"
            " $$ BEGIN -- not from tickets\n /* tickets\n tickets */ RETURN 1; END $$",
        ),
        finds=(),
    ),
    "a function of parsed SQL": Prepared(
        made=(
            "CREATE FUNCTION g() RETURNS bigint LANGUAGE sql"
            " BEGIN ATOMIC SELECT count(*) FROM tickets; END",
        ),
        finds=(),
    ),
    "foreign keys to it": Prepared(
        made=("CREATE TABLE votes (ticket integer REFERENCES tickets)",), finds=()
    ),
    "a trigger that is disabled": Prepared(
        made=(TRIGGER_FUNCTION.format(""), ON_UPDATE, "ALTER TABLE tickets DISABLE TRIGGER t"),
        finds=(),
    ),
    "policies, and an owner without FORCE": Prepared(
        made=(
            "ALTER TABLE tickets ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON tickets USING (priority > 1)",
        ),
        finds=(),
    ),
    "a generated column, comments, statistics of another name": Prepared(
        made=(
            "ALTER TABLE tickets ADD double integer GENERATED ALWAYS AS (priority * 2) STORED",
            "COMMENT ON TABLE tickets IS 'what people ask for'",
            "CREATE STATISTICS by_state ON state, priority FROM tickets",
        ),
        finds=(),
    ),
    "rights on the whole table": Prepared(
        made=("GRANT SELECT, UPDATE ON tickets TO PUBLIC",), finds=()
    ),
    "a short transaction that uses it": Prepared(held=("SELECT FROM tickets",), finds=()),
    # -- the table -----------------------------------------------------------------------------
    "no table": Prepared(made=("DROP TABLE tickets",), finds=("B table-missing",)),
    "no table, and one of the new name": Prepared(
        made=("ALTER TABLE tickets RENAME TO issues",), finds=("B table-missing",)
    ),
    "a view": Prepared(
        made=("ALTER TABLE tickets RENAME TO t", "CREATE VIEW tickets AS SELECT * FROM t"),
        finds=("B table-kind",),
    ),
    "a materialized view": Prepared(
        made=(
            "ALTER TABLE tickets RENAME TO t",
            "CREATE MATERIALIZED VIEW tickets AS SELECT * FROM t",
        ),
        finds=("B table-kind",),
    ),
    "no rows": Prepared(
        made=("TRUNCATE tickets",), finds=("N table-empty", *["N rule-takes-nothing"] * 2)
    ),
    "an unlogged table": Prepared(
        made=("ALTER TABLE tickets SET UNLOGGED",), finds=("W unlogged",)
    ),
    "a child table": Prepared(
        made=("CREATE TABLE child () INHERITS (tickets)",), finds=("B inheritance",)
    ),
    "a parent table": Prepared(
        made=("CREATE TABLE parent (id integer)", "ALTER TABLE tickets INHERIT parent"),
        finds=("B inheritance",),
    ),
    "a partition": Prepared(
        made=(
            "ALTER TABLE tickets RENAME TO whole",
            "CREATE TABLE tickets (LIKE whole)",
            "CREATE TABLE parent (LIKE whole) PARTITION BY RANGE (id)",
            "ALTER TABLE parent ATTACH PARTITION tickets DEFAULT",
        ),
        finds=("B inheritance", "N table-empty", *["N rule-takes-nothing"] * 2),
    ),
    "a typed table": Prepared(
        made=(
            "DROP TABLE tickets",
            "CREATE TYPE ticket AS (id integer, state text, priority integer)",
            "CREATE TABLE tickets OF ticket",
            "INSERT INTO tickets VALUES (1, 'open'), (2, 'done')",
        ),
        finds=("B typed-table",),
    ),
    "its row type in another table": Prepared(
        made=("CREATE TABLE versions (old tickets)",), finds=("B row-type-used",)
    ),
    "a partition's rewrite rule, online": Prepared(
        tickets=(*PARTITIONED, GONE),
        made=("CREATE RULE quiet AS ON UPDATE TO tickets_1 DO INSTEAD NOTHING",),
        options={"mode": "online"},
        finds=("B rewrite-rule",),
    ),
    "a partition's rewrite rule": Prepared(
        tickets=(*PARTITIONED, GONE),
        made=("CREATE RULE quiet AS ON UPDATE TO tickets_1 DO INSTEAD NOTHING",),
        options=atomic(),
        finds=(),
    ),
    "a rewrite rule": Prepared(
        made=("CREATE RULE quiet AS ON DELETE TO tickets DO INSTEAD NOTHING",),
        finds=("B rewrite-rule",),
    ),
    "triggers of a run that no ledger knows": Prepared(
        made=(
            "CREATE FUNCTION label() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            'CREATE TRIGGER "~runbook_insert_kind" BEFORE INSERT ON tickets'
            " FOR EACH ROW EXECUTE FUNCTION label()",
        ),
        finds=("B run-left-behind",),
    ),
    "an index that is invalid": Prepared(
        made=(
            "CREATE INDEX half ON tickets (price)",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass",
        ),
        finds=("W index-invalid",),
        says="'half' is invalid",
    ),
    "a deferred constraint": Prepared(
        made=(
            "CREATE TABLE votes (id integer PRIMARY KEY)",
            "ALTER TABLE tickets ADD vote integer REFERENCES votes DEFERRABLE INITIALLY DEFERRED",
        ),
        finds=("N deferred-triggers",),
    ),
    "a deferred constraint trigger": Prepared(
        made=(
            TRIGGER_FUNCTION.format(""),
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON tickets DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        finds=("N deferred-triggers",),
        says="'late' is checked, or fires, at the end",
    ),
    "a CHECK that is not valid": Prepared(
        made=(
            MOSTLY_OPEN,
            "ALTER TABLE tickets ADD CONSTRAINT priced CHECK (price > 0) NOT VALID",
        ),
        finds=("B constraint-not-valid", "N rule-takes-nothing"),
    ),
    "policies that bind the role": Prepared(
        made=(
            "CREATE ROLE {role}",
            "GRANT CREATE ON SCHEMA public TO {role}",
            IN_DATABASE.format("OWNER TO {role}"),
            "ALTER TABLE tickets OWNER TO {role}",
            "ALTER TABLE tickets ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE tickets FORCE ROW LEVEL SECURITY",
        ),
        role="{role}",
        undone=(IN_DATABASE.format("OWNER TO CURRENT_USER"), "DROP OWNED BY {role}"),
        finds=("B row-security",),
    ),
    "a vacuum against wraparound is due": Prepared(
        made=(
            "UPDATE pg_class SET relfrozenxid = ((pg_current_xact_id()::text::bigint + 4294967296"
            " - 300000000) % 4294967296)::text::xid WHERE oid = 'tickets'::regclass",
        ),
        finds=("W freeze-due",),
    ),
    # -- rights --------------------------------------------------------------------------------
    "a role that may only read": Prepared(
        made=("CREATE ROLE {role}", "GRANT SELECT ON tickets TO {role}"),
        role="{role}",
        undone=("DROP OWNED BY {role}",),
        finds=(*["B privilege-missing"] * 4, "N sessions-hidden"),
    ),
    "a role that may write and does not own": Prepared(
        made=(
            "CREATE ROLE {role}",
            "GRANT SELECT, UPDATE ON tickets TO {role}",
            "GRANT CREATE ON SCHEMA public TO {role}",
            IN_DATABASE.format("OWNER TO {role}"),
        ),
        role="{role}",
        undone=(IN_DATABASE.format("OWNER TO CURRENT_USER"), "DROP OWNED BY {role}"),
        finds=("B privilege-missing", "N sessions-hidden"),
        says="lacks ownership of tickets (owner:",
    ),
    "a role that may not read": Prepared(
        made=("CREATE ROLE {role}",),
        role="{role}",
        undone=("DROP OWNED BY {role}",),
        finds=("B privilege-missing",) * 5,
    ),
    "something else has the ledger's name": Prepared(
        made=("CREATE SCHEMA runbook", "CREATE TABLE runbook.ledger (x integer)"),
        finds=("B ledger-foreign",),
    ),
    "rights on columns that everybody has on the table": Prepared(
        made=(
            "GRANT SELECT ON tickets TO PUBLIC",
            "GRANT SELECT (state) ON tickets TO pg_monitor, PUBLIC",
        ),
        finds=(),
    ),
    "a right on a column beside another on the table": Prepared(
        made=(
            "GRANT SELECT ON tickets TO pg_monitor",
            "GRANT UPDATE (state) ON tickets TO pg_monitor",
        ),
        finds=("W column-grants",),
    ),
    "rights on columns": Prepared(
        made=("GRANT SELECT (state), UPDATE (state) ON tickets TO pg_monitor",),
        finds=("W column-grants",),
    ),
    "rights on columns, policies and a view": Prepared(
        made=(
            "GRANT SELECT (state) ON tickets TO pg_monitor",
            "ALTER TABLE tickets ENABLE ROW LEVEL SECURITY",
        ),
        options=VIEW,
        finds=("W column-grants", "W view-not-for-columns"),
    ),
    # -- names ---------------------------------------------------------------------------------
    "both tables": Prepared(made=("CREATE TABLE issues (id integer)",), finds=("B both-tables",)),
    "the new name is a type's": Prepared(
        made=("CREATE TYPE issues AS ENUM ()",), finds=("B name-taken",)
    ),
    "the new name is a sequence's": Prepared(
        made=("CREATE SEQUENCE issues",), finds=("B name-taken",)
    ),
    "a dependent's new name is taken": Prepared(
        made=("CREATE TABLE other (id integer CONSTRAINT issues_pkey PRIMARY KEY)",),
        finds=("B dependent-name-taken",),
    ),
    "two names that are cut to one": Prepared(
        spec=ONLY_RENAME.replace('"issues"', f'"{"x" * 58}"'),
        tickets=UNNAMED,
        made=(
            "CREATE INDEX tickets_same_a ON tickets (state)",
            "CREATE INDEX tickets_same_b ON tickets (price)",
        ),
        finds=("B dependent-name-taken", "N name-cut"),
    ),
    "a name that is cut": Prepared(
        spec=ONLY_RENAME.replace('"issues"', f'"{"x" * 55}"'),
        tickets=UNNAMED,
        made=("CREATE INDEX tickets_by_price ON tickets (price)",),
        finds=("N name-cut",),
        says="cut at 63 bytes",
    ),
    "the index's name is taken": Prepared(
        made=("CREATE INDEX issues_state_2_priority_idx ON tickets (price)",),
        finds=("B name-taken",),
    ),
    "an index by a name of its own": Prepared(
        spec=PLAIN.replace("tickets_state_2_priority_idx", "by_state"),
        finds=("N index-name",),
        says="it would be in Prisma 'tickets_state_2_priority_idx'",
    ),
    "names that stay": Prepared(
        made=(
            "CREATE STATISTICS tickets_by_state ON state, priority FROM tickets",
            "CREATE POLICY tickets_own ON tickets USING (true)",
        ),
        finds=("N names-kept",),
    ),
    # -- types and columns ---------------------------------------------------------------------
    "the enum is there": Prepared(
        made=("CREATE TYPE ticket_state AS ENUM ('open', 'closed', 'unknown')",),
        finds=("N enum-reused",),
    ),
    "the enum is there in another order": Prepared(
        made=("CREATE TYPE ticket_state AS ENUM ('closed', 'open', 'unknown')",),
        finds=("B enum-differs",),
    ),
    "the enum has other labels": Prepared(
        made=("CREATE TYPE ticket_state AS ENUM ('open')",), finds=("B enum-differs",)
    ),
    "the enum's name is a domain's": Prepared(
        made=("CREATE DOMAIN ticket_state AS text",), finds=("B name-taken",)
    ),
    "the enum's name is a table's": Prepared(
        made=("CREATE TABLE ticket_state (x integer)",), finds=("B name-taken",)
    ),
    "the enum is extended": Prepared(spec=EXTENDED, made=(SEVERITY,), finds=("W enum-extended",)),
    "the enum to extend is not there": Prepared(spec=EXTENDED, finds=("B enum-missing",)),
    "the column's type is not there": Prepared(spec=ONLY_CLASSIFY, finds=("B enum-missing",)),
    "a label is not there": Prepared(
        spec=ONLY_CLASSIFY,
        made=("CREATE TYPE severity AS ENUM ('low')",),
        finds=("B label-missing",),
    ),
    "the column is there": Prepared(
        made=("ALTER TABLE tickets ADD state_2 text",), finds=("B column-exists",)
    ),
    "a rule's column is not there": Prepared(
        made=("ALTER TABLE tickets RENAME state TO status",), finds=("B column-missing",)
    ),
    "an index's column is not there": Prepared(
        made=("ALTER TABLE tickets RENAME priority TO urgency",), finds=("B column-missing",)
    ),
    "a rule compares with no label": Prepared(
        made=(
            "CREATE TYPE s AS ENUM ('open', 'done', 'gone', 'Open ', 'x')",
            "ALTER TABLE tickets ALTER state TYPE s USING state::s",
        ),
        spec=PLAIN.replace('like = ["open%", "Open%"]', 'equals = "open"').replace(
            '["done", "wontfix"]', '["done", "never"]'
        ),
        tickets=(TICKETS[0], "INSERT INTO tickets (state) VALUES ('open'), ('gone')"),
        finds=("B value-unknown", "N rule-takes-nothing"),
    ),
    "an index without an operator class": Prepared(
        spec=PLAIN.replace(
            'columns = ["state_2", "priority"]', 'columns = ["state_2"]\nmethod = "gin"'
        ),
        finds=("B no-operator-class", "N index-name"),
    ),
    "a btree on json": Prepared(
        spec=indexed('["more"]'),
        made=("ALTER TABLE tickets ADD COLUMN more json",),
        finds=("B no-operator-class", "N index-name"),
        says="which cannot index column 'more': it is of type json",
    ),
    "a btree on an array of json": Prepared(
        spec=indexed('["more"]'),
        made=("ALTER TABLE tickets ADD COLUMN more json[]",),
        finds=("B no-operator-class", "N index-name"),
    ),
    "gin on bigint": Prepared(
        spec=indexed('["far"]\nmethod = "gin"'),
        made=("ALTER TABLE tickets ADD COLUMN far bigint",),
        finds=("B no-operator-class", "N index-name"),
    ),
    "types that take another's operator class": Prepared(
        spec=indexed('["a", "b", "c", "d", "e", "f", "g"]'),
        made=(
            "CREATE DOMAIN short AS varchar(9)[]",
            "CREATE TYPE pair AS (x integer, y text)",
            *(
                f"ALTER TABLE tickets ADD COLUMN {one}"
                for one in (
                    "a varchar",
                    "b short",
                    "c cidr",
                    "d regclass",
                    "e int4range",
                    "f pair",
                    "g int4multirange",
                )
            ),
        ),
        finds=("N index-name",),
    ),
    "a unique key that is none": Prepared(
        spec=indexed('["state", "priority"]\nunique = true'),
        finds=("B duplicate-keys", "N index-name"),
        says="rows of 'tickets' have state = '",
    ),
    "a unique key over the new column": Prepared(
        spec=indexed('["state_2"]\nunique = true'),
        finds=("B duplicate-keys", "N index-name"),
        says="rows of 'tickets' have state_2 = '",
    ),
    "a unique key with NULLs": Prepared(
        spec=indexed('["late"]\nunique = true'),
        made=("ALTER TABLE tickets ADD COLUMN late text",),
        finds=("N index-name",),
    ),
    "a unique key in which a constraint's is": Prepared(
        spec=indexed('["id", "state"]\nunique = true'), finds=("N index-name",)
    ),
    "a unique key that is not the partitions'": Prepared(
        spec=indexed('["state", "price"]\nunique = true'),
        tickets=(*PARTITIONED, GONE),
        finds=("B index-impossible", "B duplicate-keys", "N index-name"),
        says="lacks 'id', by which 'tickets' is partitioned",
    ),
    "an entry that fits into no page": Prepared(
        spec=indexed('["story"]'),
        made=(
            "ALTER TABLE tickets ADD COLUMN story text",
            "ALTER TABLE tickets ALTER COLUMN story SET STORAGE EXTERNAL",
            "UPDATE tickets SET story = repeat('x', 2700) WHERE id = 1",
        ),
        finds=("B index-row-too-large", "N index-name"),
    ),
    "the run's own names": Prepared(
        spec=PLAIN,
        made=(
            "CREATE FUNCTION runbook_classify_tickets_state_2() RETURNS integer"
            " LANGUAGE sql RETURN 1",
        ),
        options={"mode": "online"},
        finds=("B name-taken",),
        says="A function 'runbook_classify_tickets_state_2' is there already",
    ),
    "a partition's trigger of the run's own name": Prepared(
        spec=PLAIN,
        tickets=(*PARTITIONED, GONE),
        made=(
            'CREATE TRIGGER "~runbook_update_state_2" AFTER DELETE ON tickets_1'
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ),
        options={"mode": "online"},
        finds=("B name-taken",),
    ),
    "the name of a partition's index": Prepared(
        spec=PLAIN,
        tickets=(*PARTITIONED, GONE),
        made=("CREATE SEQUENCE tickets_1_state_2_priority_idx",),
        finds=("B name-taken",),
    ),
    "as many columns as there may be": Prepared(
        spec=PLAIN,
        tickets=(*PARTITIONED, GONE),
        made=(
            "CREATE TABLE wide (LIKE tickets INCLUDING DEFAULTS)",
            "DO $$BEGIN FOR i IN 1..1596 LOOP"
            " EXECUTE format('ALTER TABLE wide ADD COLUMN c%s int', i);"
            " EXECUTE format('ALTER TABLE wide DROP COLUMN c%s', i); END LOOP; END$$",
            "ALTER TABLE wide ALTER COLUMN id SET NOT NULL",
            "ALTER TABLE tickets DETACH PARTITION tickets_rest",
            "DROP TABLE tickets_rest",
            "ALTER TABLE tickets ATTACH PARTITION wide DEFAULT",
        ),
        finds=("B too-many-columns",),
        says="has 1,600 columns",
    ),
    "indexes alone": Prepared(
        spec=ONLY_INDEXES,
        made=("ALTER TABLE tickets ADD COLUMN more jsonb DEFAULT '{}'",),
        finds=("N index-name",) * 3,
    ),
    # -- rules ---------------------------------------------------------------------------------
    "more rows than expected match no rule": Prepared(
        made=("UPDATE tickets SET state = 'new' WHERE id % 2 = 0",), finds=("W otherwise-exceeded",)
    ),
    "NULL in a rule's column": Prepared(tickets=TICKETS, finds=("N rule-column-null",)),
    "a rule that takes nothing": Prepared(
        made=("DELETE FROM tickets WHERE state IN ('done', 'wontfix')",),
        finds=("N rule-takes-nothing",),
    ),
    # -- triggers ------------------------------------------------------------------------------
    "a partition's triggers": Prepared(
        tickets=(*PARTITIONED, GONE),
        made=(
            TRIGGER_FUNCTION.format(""),
            ON_UPDATE.replace(" ON tickets ", " ON tickets_1 "),
            "CREATE TRIGGER hears AFTER UPDATE OF priority ON tickets_rest"
            " FOR EACH STATEMENT EXECUTE FUNCTION f()",
        ),
        finds=("W update-trigger", "W update-trigger"),
        says="of public.tickets_rest fires",
    ),
    "a trigger on update": Prepared(
        made=(TRIGGER_FUNCTION.format(""), ON_UPDATE), finds=("W update-trigger",)
    ),
    "a trigger that fires after ours": Prepared(
        options=ONLINE,
        made=(
            TRIGGER_FUNCTION.format(""),
            'CREATE TRIGGER "~~late" BEFORE INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION f()',
        ),
        finds=("B trigger-fires-later",),
    ),
    "a trigger that writes to the old name": Prepared(
        made=(
            TRIGGER_FUNCTION.format("PERFORM count(*) FROM tickets;"),
            AFTER_INSERT,
        ),
        finds=("B trigger-names-table",),
        says="line 1: BEGIN PERFORM count(*) FROM tickets",
    ),
    "a trigger that writes to the old name, with a view": Prepared(
        options=VIEW,
        made=(
            TRIGGER_FUNCTION.format("PERFORM count(*) FROM tickets;"),
            AFTER_INSERT,
        ),
        finds=("N function-names-table",),
    ),
    "a trigger that has the old name in a string": Prepared(
        made=(TRIGGER_FUNCTION.format("RAISE DEBUG 'tickets';"), AFTER_INSERT),
        finds=("W function-names-table",),
    ),
    "a rule on a generated column": Prepared(
        options=ONLINE,
        made=(
            "ALTER TABLE tickets RENAME state TO told",
            "ALTER TABLE tickets ADD state text GENERATED ALWAYS AS (told) STORED",
        ),
        finds=("B rule-on-generated-column",),
    ),
    "an event trigger": Prepared(
        made=(
            "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
            "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION e()",
        ),
        finds=("W event-trigger",),
    ),
    "histories of other tools": Prepared(
        made=(
            "CREATE TABLE _prisma_migrations (id text)",
            "CREATE TABLE alembic_version (version_num text)",
            "CREATE TABLE flyway_schema_history (version text)",
            "CREATE SCHEMA app CREATE TABLE databasechangelog (id text)",
        ),
        finds=("N tool-history",) * 4,
        says="Liquibase migrates this database as well: it keeps its history in "
        "app.databasechangelog",
    ),
    "an event trigger that is disabled": Prepared(
        made=(
            "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
            "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION e()",
            "ALTER EVENT TRIGGER watch DISABLE",
        ),
        finds=(),
    ),
    # -- dependents ----------------------------------------------------------------------------
    "a function that names it": Prepared(
        made=(
            "CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS"
            " $$ BEGIN\n  RETURN (SELECT count(*) FROM public.TICKETS); END $$",
        ),
        finds=("W function-names-table",),
        says="line 2: RETURN (SELECT count(*) FROM public.TICKETS)",
    ),
    "a function that names it, without rename": Prepared(
        spec=PLAIN,
        made=(
            "CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS"
            " $$ BEGIN RETURN (SELECT count(*) FROM tickets); END $$",
        ),
        finds=(),
    ),
    "views upon views": Prepared(
        made=(
            "CREATE VIEW open AS SELECT * FROM tickets WHERE state = 'open'",
            "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM open",
        ),
        finds=("N views-lack-column",),
        says="View public.open will not show 'state_2'",
    ),
    "a publication": Prepared(made=(PUBLISHED,), finds=("W published",)),
    "a publication of all tables": Prepared(
        made=("CREATE PUBLICATION p FOR ALL TABLES",), finds=("W published",)
    ),
    "a publication, and nothing that identifies rows": Prepared(
        made=(PUBLISHED, "ALTER TABLE tickets DROP CONSTRAINT tickets_pkey"),
        finds=("B no-replica-identity", "W published"),
    ),
    "a publication of some columns, by full rows": Prepared(
        made=(
            "CREATE PUBLICATION p FOR TABLE tickets (id, state)",
            "ALTER TABLE tickets REPLICA IDENTITY FULL",
        ),
        finds=("B published-in-part", "W published"),
    ),
    "a subscription": Prepared(
        made=(*SUBSCRIBED, "UPDATE pg_subscription SET subenabled = true"),
        undone=("UPDATE pg_subscription SET subenabled = false", "DROP SUBSCRIPTION s"),
        finds=("B subscribed",),
    ),
    "a subscription that is disabled": Prepared(
        made=SUBSCRIBED, undone=("DROP SUBSCRIPTION s",), finds=("W subscribed",)
    ),
    "a table of an extension": Prepared(
        made=("ALTER EXTENSION plpgsql ADD TABLE tickets",), finds=("B extension-member",)
    ),
    "partitions of partitions, online": Prepared(
        tickets=(
            "CREATE TABLE tickets (id integer, state text, priority integer)"
            " PARTITION BY RANGE (id)",
            "CREATE TABLE low PARTITION OF tickets DEFAULT PARTITION BY RANGE (id)",
            "CREATE TABLE lowest PARTITION OF low DEFAULT",
            "INSERT INTO tickets VALUES (1, 'open', 1), (2, 'done', 1)",
        ),
        options=ONLINE,
        finds=("B sub-partitions",),
    ),
    "a foreign partition": Prepared(
        tickets=(
            "CREATE FOREIGN DATA WRAPPER w",
            "CREATE SERVER s FOREIGN DATA WRAPPER w",
            "CREATE TABLE tickets (id integer, state text, priority integer)"
            " PARTITION BY RANGE (id)",
            "CREATE FOREIGN TABLE far PARTITION OF tickets DEFAULT SERVER s",
        ),
        finds=("B partition-kind",),
    ),
    # -- who is at work ------------------------------------------------------------------------
    "an old transaction": Prepared(
        busy="SELECT pg_sleep(600) FROM tickets LIMIT 1", finds=("W old-transaction",)
    ),
    "a transaction that waits for its client": Prepared(
        held=("UPDATE tickets SET price = 1 WHERE id = 1",),
        finds=("W idle-in-transaction",),
        says="holds RowExclusive on public.tickets",
    ),
    "a prepared transaction on it": Prepared(
        made=("BEGIN; UPDATE tickets SET price = 1 WHERE id = 1; PREPARE TRANSACTION '{role}'",),
        undone=("ROLLBACK PREPARED '{role}'",),
        finds=("B prepared-transaction",),
    ),
    "a prepared transaction elsewhere": Prepared(
        made=("BEGIN; CREATE TABLE elsewhere (); PREPARE TRANSACTION '{role}'",),
        undone=("ROLLBACK PREPARED '{role}'",),
        finds=("W prepared-transaction",),
    ),
    # -- the server ----------------------------------------------------------------------------
    "timeouts of the database": Prepared(
        made=(
            IN_DATABASE.format("SET statement_timeout = ''5s''"),
            IN_DATABASE.format("SET idle_session_timeout = ''1min''"),
        ),
        finds=("N role-timeout",),
        says="idle_session_timeout = 60,000 ms, statement_timeout = 5,000 ms",
    ),
    "sessions that are read-only": Prepared(
        made=(IN_DATABASE.format("SET default_transaction_read_only = on"),),
        undone=(
            "SET default_transaction_read_only = off",
            IN_DATABASE.format("RESET default_transaction_read_only"),
        ),
        finds=("B read-only-server",),
    ),
    "a slot that nobody reads": Prepared(
        made=("SELECT pg_create_physical_replication_slot('{role}', true)",),
        undone=("SELECT pg_drop_replication_slot('{role}')",),
        finds=("W slot-inactive",),
    ),
    "a lock longer than the budget": Prepared(
        options=atomic(lock_budget_ms=1), finds=("W lock-over-budget",)
    ),
}
