"""Migrations of other kinds than the shipped one: each to its end, with every check."""

import random
import re
from dataclasses import replace
from typing import Any

import pytest

from runbook.errors import RolledBack, SpecError
from runbook.plan.script import script
from runbook.spec import Spec, parse_spec
from runbook.vocabulary import Phase
from tests.conftest import Database
from tests.migrating import catalog_of, check, findings_of, migrate, plan_of
from tests.run.test_atomic import unchanged

TICKETS = (
    "CREATE TABLE tickets (id serial PRIMARY KEY, state text, priority integer, price numeric)",
    "INSERT INTO tickets (state, priority, price) SELECT (ARRAY['open', 'Open ', 'done', 'wontfix',"
    " NULL])[1 + i % 5], i % 4, (i % 7)::numeric / 2 FROM generate_series(0, 999) AS i",
)

WIDE = (
    "ALTER TABLE tickets ADD COLUMN story text",
    "UPDATE tickets SET story = repeat(md5(id::text), 60)",
)

WITHOUT_RENAME = """
name = "tickets"
table = "tickets"
[[operation]]
op = "create_enum"
name = "ticket_state"
labels = ["open", "closed", "unknown"]
[[operation]]
op = "classify"
column = "state_2"
type = "ticket_state"
otherwise = "unknown"
expect_otherwise = 200
[[operation.rule]]
label = "open"
when = { column = "state", like = ["open%", "Open%"] }
[[operation.rule]]
label = "closed"
when = { all = [
    { column = "state", equals = ["done", "wontfix"] },
    { not = { column = "state", is_null = true } },
] }
[[operation]]
op = "create_index"
name = "tickets_state_2_priority_idx"
columns = ["state_2", "priority"]
"""

ONLY_CLASSIFY = """
name = "only-classify"
table = "tickets"
[[operation]]
op = "classify"
column = "level"
type = "severity"
otherwise = "low"
expect_otherwise = 1000
[[operation.rule]]
label = "high"
when = { column = "priority", equals = 3 }
"""

EXTENDED = ONLY_CLASSIFY.replace(
    "[[operation]]",
    '[[operation]]\nop = "create_enum"\nname = "severity"\n'
    'labels = ["low", "high", "urgent"]\nextend = true\n[[operation]]',
    1,
).replace('label = "high"', 'label = "urgent"')

ONLY_RENAME = """
name = "only-rename"
table = "tickets"
[[operation]]
op = "rename_table"
to = "issues"
"""


def spec_of(text: str) -> Spec:
    return parse_spec(text, file="test.toml")


def passed(database: Database, spec: Spec) -> bool:
    results = check(database, spec)
    assert not [result for result in results.values() if not result.passed]
    return bool(results)


def counts(database: Database, table: str, column: str) -> Any:
    return database.value(
        f"SELECT jsonb_object_agg({column}, n) FROM"
        f" (SELECT {column}, count(*) AS n FROM {table} GROUP BY 1) AS c"
    )


def test_a_spec_without_rename(database: Database) -> None:
    database.execute(*TICKETS)
    spec = spec_of(WITHOUT_RENAME)
    applied = migrate(database, spec)
    assert applied.proof.passed and passed(database, spec)
    assert counts(database, "tickets", "state_2") == {"open": 400, "closed": 400, "unknown": 200}


def test_only_a_classify_on_an_existing_type(database: Database) -> None:
    database.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('low', 'high')")
    spec = spec_of(ONLY_CLASSIFY)
    assert migrate(database, spec).proof.passed and passed(database, spec)
    assert counts(database, "tickets", "level") == {"low": 750, "high": 250}


def test_an_existing_type_is_extended(database: Database) -> None:
    database.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('low', 'high')")
    spec = spec_of(EXTENDED)
    assert "enum-extended" in [finding.code for finding in findings_of(database, spec)]
    assert migrate(database, spec).proof.passed and passed(database, spec)
    assert counts(database, "tickets", "level") == {"low": 750, "urgent": 250}


def test_a_failure_after_an_extension_says_that_the_label_stays(database: Database) -> None:
    database.execute(
        *TICKETS,
        "CREATE TYPE severity AS ENUM ('low', 'high')",
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'not today'; END $$",
        *WIDE,  # a rewrite would fire no trigger
        "CREATE TRIGGER no BEFORE UPDATE ON tickets EXECUTE FUNCTION no()",
    )
    with pytest.raises(RolledBack, match="not today") as caught:
        migrate(database, spec_of(EXTENDED))
    assert "staying: Add label urgent to severity" in caught.value.remedy
    assert database.value("SELECT enum_range(NULL::severity)::text") == "{low,high,urgent}"
    database.execute("DROP TRIGGER no ON tickets")
    assert migrate(database, spec_of(EXTENDED)).proof.passed


def test_labels_may_only_be_appended_to_an_existing_type(empty_newest: Database) -> None:
    empty_newest.execute(*TICKETS, "CREATE TYPE severity AS ENUM ('high', 'low')")
    assert "enum-differs" in [f.code for f in findings_of(empty_newest, spec_of(EXTENDED))]


def test_only_a_rename_takes_serial_sequence_and_keys_along(database: Database) -> None:
    database.execute(*TICKETS)
    spec = spec_of(ONLY_RENAME)
    assert migrate(database, spec).proof.passed and passed(database, spec)
    assert database.value("SELECT pg_get_serial_sequence('issues', 'id')") == "public.issues_id_seq"
    database.execute("INSERT INTO issues (state) VALUES ('after')")


def test_triggers_keep_their_names_constraint_triggers_too(database: Database) -> None:
    database.execute(
        *TICKETS,
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER tickets_later AFTER UPDATE ON tickets"
        " FOR EACH ROW EXECUTE FUNCTION nothing()",
    )
    spec = spec_of(ONLY_RENAME)
    assert migrate(database, spec).proof.passed and passed(database, spec)
    assert database.value("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal") == (
        "tickets_later"
    )


def test_a_new_name_that_starts_with_the_old_one(database: Database) -> None:
    database.execute(*TICKETS)
    spec = spec_of(ONLY_RENAME.replace("issues", "tickets_old"))
    assert migrate(database, spec).proof.passed and passed(database, spec)
    assert database.value("SELECT to_regclass('tickets_old_pkey') IS NOT NULL")


def test_an_empty_table(database: Database) -> None:
    database.execute(TICKETS[0])
    spec = spec_of(WITHOUT_RENAME)
    applied = migrate(database, spec)
    assert (applied.before.rows, applied.after.rows) == (0, 0) and passed(database, spec)


def test_the_table_is_rewritten_where_many_rows_differ(database: Database) -> None:
    database.execute(*TICKETS)
    before = database.value("SELECT pg_relation_filenode('tickets')")
    plan = plan_of(database, spec_of(WITHOUT_RENAME))
    assert re.search(
        r"600 of 1,000 rows .* rewritten once \(about .* ms; that many updates take .* ms\)",
        plan.reasons[0],
    )
    migrate(database, spec_of(WITHOUT_RENAME))
    assert database.value("SELECT pg_relation_filenode('tickets')") != before


def test_wide_rows_are_updated_where_narrow_ones_are_rewritten(empty_newest: Database) -> None:
    """A rewrite copies every byte, an update leaves what is kept beside the row."""
    empty_newest.execute(*TICKETS, *WIDE)
    plan = plan_of(empty_newest, spec_of(WITHOUT_RENAME))
    assert "600 of 1,000 rows get another one, so open comes as a metadata" in plan.reasons[0]


def test_few_rows_that_differ_are_updated_in_place(sample: Database) -> None:
    before = sample.value("SELECT pg_relation_filenode('enrichment_logs')")
    assert "metadata-only default" in plan_of(sample).reasons[0]
    migrate(sample)
    assert sample.value("SELECT pg_relation_filenode('llama_logs')") == before


def test_a_table_of_the_ledgers_name_that_is_no_ledger_is_a_blocker(database: Database) -> None:
    database.execute(*TICKETS, "CREATE SCHEMA runbook", "CREATE TABLE runbook.ledger (x integer)")
    blocking = [f.code for f in findings_of(database, spec_of(WITHOUT_RENAME))]
    assert "ledger-foreign" in blocking


INDEX = """
[[operation]]
op = "create_index"
name = "issues"
columns = ["id", "state"]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONLY_RENAME + INDEX, "two operations give the name 'issues'"),
        (
            ONLY_RENAME + '[[operation]]\nop = "create_enum"\nname = "issues"\nlabels = ["a"]\n',
            "two operations give the name 'issues'",
        ),
        (WITHOUT_RENAME + INDEX + INDEX, "two operations give the name 'issues'"),
        (WITHOUT_RENAME + INDEX + 'method = "hash"', "by hash takes one column"),
        (WITHOUT_RENAME + INDEX + 'method = "gin"\nunique = true', "by gin cannot be unique"),
    ],
)
def test_a_spec_that_no_postgresql_could_apply_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(text)


HOSTILE = """
name = "hostile"
schema = 'Sch"ema; %s'
table = 'Ta"ble; --%(x)s'
[[operation]]
op = "rename_table"
to = "новая\\ntable {0} $$"
[[operation]]
op = "create_enum"
name = "Ty\\"pe's %"
labels = ["it's", 'a "b"', "back\\\\slash", "100 %", "日本"]
[[operation]]
op = "classify"
column = 'cat"egory %'
type = "Ty\\"pe's %"
otherwise = "日本"
expect_otherwise = 100
[[operation.rule]]
label = "it's"
when = { column = 'co"l %', equals = "it's" }
[[operation.rule]]
label = "back\\\\slash"
when = { column = 'co"l %', like = 'back\\\\%' }
[[operation.rule]]
label = "100 %"
when = { column = 'co"l %', like = "100 %" }
[[operation]]
op = "create_index"
name = 'cat idx; --%(x)s "'
columns = ['cat"egory %', 'co"l %']
"""

HOSTILE_MADE = (
    'CREATE SCHEMA "Sch""ema; %s"',
    'CREATE TABLE "Sch""ema; %s"."Ta""ble; --%(x)s"'
    ' ("i d" serial PRIMARY KEY, "co""l %" text UNIQUE)',
    """INSERT INTO "Sch""ema; %s"."Ta""ble; --%(x)s" ("co""l %")
       VALUES ('it''s'), ('back%'), ('100 % of it'), (NULL)""",
)


def test_names_and_values_that_need_quoting(database: Database) -> None:
    database.execute(*HOSTILE_MADE)
    spec = spec_of(HOSTILE)
    assert migrate(database, spec).proof.passed and passed(database, spec)


def test_the_script_holds_no_line_that_a_name_could_have_smuggled_in(database: Database) -> None:
    database.execute(
        "CREATE TABLE victim (id integer)",
        "CREATE TABLE tickets (id integer, CONSTRAINT \"tickets_\nDROP TABLE victim; --\" CHECK"
        " (id > 0))",
    )  # fmt: skip
    spec = spec_of(ONLY_RENAME)
    catalog = catalog_of(database, spec)
    assert catalog.table
    text = script(spec, plan_of(database, spec), catalog.table)
    comments = [line for line in text.splitlines() if line.startswith("--")]
    assert any("DROP TABLE victim" in line for line in comments)
    database.execute("\n".join(x for x in text.splitlines() if not x.startswith("\\")))
    assert database.value("SELECT to_regclass('victim') IS NOT NULL")


def test_names_of_63_bytes_are_cut_as_postgresql_cuts_them(database: Database) -> None:
    long = "ü" * 31
    database.execute(
        f'CREATE TABLE tickets (id integer, CONSTRAINT "tickets_{long[:27]}" CHECK (id > 0))'
    )
    spec = spec_of(ONLY_RENAME.replace("issues", long))
    migrate(database, spec)
    names = database.value(
        "SELECT array_agg(conname::text) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
    )
    assert (long + "_")[:63] in [name[:32] for name in names]
    assert passed(database, spec)


def test_names_that_are_cut_to_the_same_63_bytes_are_a_blocker(empty_newest: Database) -> None:
    empty_newest.execute(
        "CREATE TABLE tickets (a integer, b integer)",
        "CREATE INDEX tickets_same_a ON tickets (a)",
        "CREATE INDEX tickets_same_b ON tickets (b)",
    )
    spec = spec_of(ONLY_RENAME.replace('"issues"', f'"{"x" * 58}"'))
    blocking = [f for f in findings_of(empty_newest, spec) if f.code == "dependent-name-taken"]
    assert len(blocking) == 1 and "cut to the same 63 bytes" in blocking[0].message


def test_every_kind_of_value_keeps_its_fingerprint(database: Database) -> None:
    """Types without a hash function, and types whose equality hides differences."""
    chance = random.Random(1)
    database.execute(
        "CREATE TABLE tickets (state text, j json, jb jsonb, p point, n numeric, f float8,"
        " i interval, a numeric[], r int4range, b bytea, t timestamptz, c char(5), iv int[])",
        "INSERT INTO tickets SELECT 'open', '{\"a\": 1}', '{\"n\": 1.00}', point(1, 2),"
        f" 1.{'0' * chance.randint(1, 5)}, -0.0, '1 day', '{{1.0,2}}', '[1,5)', '\\x00', now(),"
        " 'ab', '{1,2}' FROM generate_series(1, 10)",
    )
    if database.major == 15:  # the wheel's servers are built without XML
        database.execute("ALTER TABLE tickets ADD COLUMN x xml", "UPDATE tickets SET x = '<a/>'")
    spec = spec_of(WITHOUT_RENAME.replace("priority", "n"))
    assert migrate(database, spec).proof.passed and passed(database, spec)


MUTATIONS = {
    "a numeric's scale": "UPDATE public.issues SET price = price * 1.00 WHERE id = 1",
    "one byte": "UPDATE public.issues SET state = 'opeN' WHERE state = 'open' AND id = 1",
    "NULL and empty": "UPDATE public.issues SET state = '' WHERE id = 5",
    "values swapped": "UPDATE public.issues SET priority = 3 - priority WHERE id IN (1, 4)",
    "one lost, one twice": "WITH lost AS (DELETE FROM public.issues WHERE id = 1)"
    " INSERT INTO public.issues SELECT * FROM public.issues WHERE id = 2",
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_data_altered_within_the_transaction_fails_the_proof(
    mutation: str, empty_newest: Database
) -> None:
    empty_newest.execute(*TICKETS, "ALTER TABLE tickets DROP CONSTRAINT tickets_pkey")
    spec = spec_of(ONLY_RENAME)
    plan = plan_of(empty_newest, spec)
    *others, last = plan.of_phase(Phase.ATOMIC)
    statements = (*others, replace(others[-1], sql=mutation), last)
    with unchanged(empty_newest), pytest.raises(RolledBack, match="proof failed"):
        migrate(empty_newest, spec, plan=replace(plan, statements=statements))
