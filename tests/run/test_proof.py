"""The proof catches every alteration of the data, however small, and whoever makes it."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from subprocess import CalledProcessError
from typing import Literal

import psycopg
import pytest

from runbook.errors import RolledBack
from runbook.plan import Plan, build_plan
from runbook.plan.script import script
from runbook.run import Course
from runbook.spec import Spec
from runbook.vocabulary import Role, Statement
from tests.conftest import Database
from tests.migrating import ATOMIC, catalog_of, migrate
from tests.operations.test_specs import spec_of
from tests.plan.test_plan import psql
from tests.run.test_atomic import unchanged

THINGS = (
    "CREATE TABLE things (id integer PRIMARY KEY, kind text, word varchar(20), blank char(4),"
    " amount numeric, ratio double precision, at timestamp, span interval, tags text[],"
    " body jsonb, plain json, place point, data bytea, updated_at timestamptz, size bigint,"
    " sizes bigint[])",
    "INSERT INTO things SELECT i, (ARRAY['a', 'b', NULL])[1 + i % 3], 'word ' || i, 'x', 1.0, 0.5,"
    " timestamp '2026-01-01' + i * interval '1 second', interval '1 month',"
    " ARRAY['one', 'two', NULL], jsonb_build_object('key', i, 'n', 1.0), '{\"a\": 1}',"
    " point(i, 1), '\\x00ff', '2026-01-01', 5, ARRAY[5, i] FROM generate_series(1, 300) AS i",
)

SPEC = """
name = "things"
table = "things"
[[operation]]
op = "create_enum"
name = "thing_kind"
labels = ["A", "B", "other"]
[[operation]]
op = "classify"
column = "category"
type = "thing_kind"
otherwise = "other"
expect_otherwise = 300
[[operation.rule]]
label = "A"
when = { column = "kind", equals = "a" }
[[operation.rule]]
label = "B"
when = { column = "kind", equals = "b" }
"""

MUTATIONS = {
    "one byte of a text": "UPDATE things SET word = 'Word 7' WHERE id = 7",
    "a blank at a text's end": "UPDATE things SET word = word || ' ' WHERE id = 7",
    "NULL becomes empty": "UPDATE things SET kind = '' WHERE id = 2",
    "empty becomes NULL": "UPDATE things SET word = NULL WHERE word = ''",
    "values swapped between two rows": "UPDATE things SET word = 'word ' || 15 - id"
    " WHERE id IN (7, 8)",
    "values swapped between two columns": "UPDATE things SET kind = word, word = kind WHERE id = 7",
    "a numeric's scale": "UPDATE things SET amount = 1.00 WHERE id = 7",
    "a float's sign of zero": "UPDATE things SET ratio = '-0' WHERE ratio = 0",
    "a float's last bit": "UPDATE things SET ratio = 0.5000000000000001 WHERE id = 7",
    "a key of jsonb": 'UPDATE things SET body = \'{"Key": 7, "n": 1.0}\' WHERE id = 7',
    "a number's scale in jsonb": 'UPDATE things SET body = \'{"key": 7, "n": 1.00}\' WHERE id = 7',
    "a microsecond more": "UPDATE things SET at = at + interval '1 microsecond' WHERE id = 7",
    "a microsecond less": "UPDATE things SET at = at - interval '1 microsecond' WHERE id = 7",
    "the order of an array": "UPDATE things SET tags = ARRAY['two', 'one', NULL] WHERE id = 7",
    "an array's bounds": "UPDATE things SET tags = '[0:2]={one,two,NULL}' WHERE id = 7",
    "an interval's units": "UPDATE things SET span = interval '30 days' WHERE id = 7",
    "a blank in json": "UPDATE things SET plain = '{\"a\":1}' WHERE id = 7",
    "a point": "UPDATE things SET place = point(7, 1.0000000000000002) WHERE id = 7",
    "a bigint's halves swapped": "UPDATE things SET size = size << 32 WHERE id = 7",
    "those of a bigint in an array": "UPDATE things SET sizes[1] = 5::bigint << 32 WHERE id = 7",
    # From one microsecond after 2000-01-01, which is stored as 1, to what is stored as 2^32.
    "a timestamp's halves swapped": "UPDATE things SET updated_at = timestamptz '2000-01-01 UTC'"
    " + (1::bigint << 32) * interval '1 microsecond' WHERE id = 9",
    "a byte of bytea": "UPDATE things SET data = '\\x00fe' WHERE id = 7",
    "a row lost and another twice": "UPDATE things t SET word = o.word, body = o.body, at = o.at,"
    " place = o.place, kind = o.kind, category = o.category FROM things o"
    " WHERE t.id = 7 AND o.id = 8",
    "a row lost": "DELETE FROM things WHERE id = 7",
    "a row more": "INSERT INTO things (id, category) VALUES (1000, 'other')",
    "a row's key": "UPDATE things SET id = 1000 WHERE id = 7",
}
PREPARED = (
    "UPDATE things SET ratio = 0 WHERE id = 7",
    "UPDATE things SET word = '' WHERE id = 8",
    "UPDATE things SET updated_at = '2000-01-01 00:00:00.000001 UTC' WHERE id = 9",
)
Proof = Literal["hash", "sha256"]
PROOFS: tuple[Proof, ...] = ("hash", "sha256")


def mutated(plan: Plan, mutation: str) -> Plan:
    """Return the plan with a statement that nobody knows of, before the second count."""
    place = next(n for n, one in enumerate(plan.statements) if one.role is Role.TALLY_AFTER)
    stray = Statement(
        sql=mutation, title="a stray change", lock_timeout_ms=1, application_schema="public"
    )
    statements = (*plan.statements[:place], stray, *plan.statements[place:])
    return replace(plan, statements=statements)


def plan_with(database: Database, spec: Spec, proof: Proof) -> Plan:
    options = replace(ATOMIC, proof=proof)
    return build_plan(spec, catalog_of(database, spec), options)


@pytest.fixture
def things(database: Database) -> Database:
    database.execute(*THINGS, *PREPARED)
    return database


@pytest.mark.parametrize("proof", PROOFS)
def test_every_alteration_is_caught_and_rolled_back(proof: Proof, things: Database) -> None:
    spec = spec_of(SPEC)
    plan = plan_with(things, spec, proof)
    missed = []
    with unchanged(things):
        for name, mutation in MUTATIONS.items():
            try:
                migrate(things, spec, plan=mutated(plan, mutation))
                missed.append(name)
            except RolledBack as error:
                assert error.message.startswith("The proof failed"), name
    assert missed == []
    assert migrate(things, spec, plan=plan).proof.passed


def test_xml_is_proved_where_the_server_has_it(things: Database) -> None:
    try:
        things.execute("ALTER TABLE things ADD COLUMN page xml DEFAULT '<a/>'")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without xml")
    spec = spec_of(SPEC)
    for proof in PROOFS:
        stray = mutated(plan_with(things, spec, proof), "UPDATE things SET page = '<a />'")
        with unchanged(things), pytest.raises(RolledBack, match="The proof failed"):
            migrate(things, spec, plan=stray)


def test_the_ranges_and_rows_that_differ_are_named(things: Database) -> None:
    things.execute(
        "INSERT INTO things (id, kind, word) SELECT i, 'a', 'w' FROM generate_series(301, 25000) i"
    )
    spec = spec_of(SPEC)
    stray = (
        "DO $$BEGIN UPDATE things SET word = 'W', kind = 'b', category = 'B' WHERE id = 12345;"
        " DELETE FROM things WHERE id = 24000;"
        " INSERT INTO things (id, category) VALUES (0, 'other'); END$$"
    )
    course = Course()
    with unchanged(things), pytest.raises(RolledBack) as raised:
        migrate(things, spec, plan=mutated(plan_with(things, spec, "sha256"), stray), course=course)
    assert course.proof is not None and not course.proof.passed
    assert course.proof.different == (
        "Rows by id from … to before 1 (0 rows before, 1 after) differ",
        "Rows by id from 10001 to before 20001 (10,000 rows before, 10,000 after) differ",
        "Rows by id from 20001 to before … (5,000 rows before, 4,999 after) differ",
        "Row 0 new",
        "Row 12345 altered (kind, word)",
        "Row 24000 lost",
    )
    assert raised.value.message.endswith(f" {course.proof.different[0]}.")


KEYS = {
    "composite": (["ALTER TABLE things ADD PRIMARY KEY (word, id)"], "word, id", "Word 7, 7"),
    "text of another collation": (
        ['ALTER TABLE things ALTER word TYPE text COLLATE "C" USING word || id',
         "ALTER TABLE things ADD PRIMARY KEY (word)"], "word", None,
    ),
    "unique": (
        ['ALTER TABLE things ALTER id SET NOT NULL, ADD CONSTRAINT "the key" UNIQUE (id)'],
        "id",
        "7",
    ),
    "unique, but NULL": (
        ["ALTER TABLE things ALTER id DROP NOT NULL, ADD UNIQUE (id)"], None, None,
    ),
    "timestamp": (["ALTER TABLE things ADD PRIMARY KEY (at)"], "at", "2026-01-01 00:00:07"),
    "a name": (['ALTER TABLE things RENAME id TO "I ""%s"" d"',
                'ALTER TABLE things ADD PRIMARY KEY ("I ""%s"" d")'], 'I "%s" d', "7"),
    "none, and equal rows": (["INSERT INTO things SELECT * FROM things"], None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_any_key_orders_the_rows(name: str, empty_newest: Database) -> None:
    changes, key, row = KEYS[name]
    empty_newest.execute(*THINGS, "ALTER TABLE things DROP CONSTRAINT things_pkey", *changes)
    spec = spec_of(SPEC)
    plan = plan_with(empty_newest, spec, "sha256")
    course = Course()
    stray = "UPDATE things SET tags = '{one}', word = 'Word 7' WHERE word LIKE 'word 7'"
    if name == "text of another collation":
        stray = "UPDATE things SET tags = '{one}', word = 'Word 7' WHERE word LIKE 'word 77'"
    with unchanged(empty_newest), pytest.raises(RolledBack):
        migrate(empty_newest, spec, plan=mutated(plan, stray), course=course)
    said = key or "the rows' digests"
    assert course.proof and course.proof.different[0].startswith(f"Rows by {said} from")
    rows = [one for one in course.proof.different if one.startswith("Row ")]
    assert rows and (row is None or any(one.startswith(f"Row {row} ") for one in rows))
    assert migrate(empty_newest, spec, plan=plan).proof.passed


@pytest.mark.parametrize("proof", PROOFS)
def test_the_script_proves_as_the_run_does(proof: Proof, things: Database, tmp_path: Path) -> None:
    spec = spec_of(SPEC)
    plan = plan_with(things, spec, proof)
    table = catalog_of(things, spec).table
    assert table is not None
    stray = script(spec, mutated(plan, MUTATIONS["one byte of a text"]), table)
    with unchanged(things), pytest.raises(CalledProcessError) as raised:
        psql(things, stray, tmp_path)
    assert "the proof failed" in raised.value.stderr
    psql(things, script(spec, plan, table), tmp_path)
    recorded = things.value("SELECT to_jsonb(l) FROM runbook.ledger l")
    things.execute("ALTER TABLE things DROP category", "DROP TYPE thing_kind")
    things.execute("DROP SCHEMA runbook CASCADE")
    again = migrate(things, spec, plan=plan)
    assert recorded["algorithm"] == again.proof.algorithm
    assert recorded["fingerprint"] == again.proof.fingerprint_after


def test_the_proof_by_sha256_can_be_made_again_by_anybody(things: Database) -> None:
    """From the rows' texts alone, by another implementation."""
    spec = spec_of(SPEC)
    rows = things.value("SELECT jsonb_agg(things::text ORDER BY id) FROM things")
    proof = migrate(things, spec, plan=plan_with(things, spec, "sha256")).proof
    digests = b"".join(sha256(text.encode()).digest() for text in rows)
    expected = sha256(sha256(digests).digest()).hexdigest()
    assert proof.fingerprint_before == proof.fingerprint_after == expected
    assert things.value("SELECT fingerprint FROM runbook.ledger") == expected
