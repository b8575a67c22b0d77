"""What a script does for itself that the runbook does for a run: refuse another table, or a run
beside it, and compare the tallies."""

from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile
from typing import LiteralString

from runbook import sql
from runbook.catalog.ledger import lock_key
from runbook.facts import Table
from runbook.plan.ledger import json
from runbook.plan.model import Plan
from runbook.plan.script.part import Part
from runbook.trust.holding import hold_names
from runbook.trust.ledger import problems_query
from runbook.trust.owner_code import owner_code_query
from runbook.vocabulary import Role, Statement

_GUARD: LiteralString = """\
DO {tag}
DECLARE
    found jsonb;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended({key}, 0)) THEN
        RAISE EXCEPTION 'another run is at work on this table' USING HINT = 'Nothing was changed.';
    END IF;
    SELECT jsonb_build_object(
        'columns', (SELECT coalesce(jsonb_agg(jsonb_build_array(
                attname, format_type(atttypid, atttypmod), attnotnull) ORDER BY attnum), '[]')
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
        'constraints', (SELECT coalesce(jsonb_agg(jsonb_build_array(
                conname, pg_get_constraintdef(oid)) ORDER BY conname), '[]')
            FROM pg_constraint WHERE conrelid = c.oid AND contype <> 't'),
        'indexes', (SELECT coalesce(jsonb_agg(jsonb_build_array(
                x.relname, pg_get_indexdef(x.oid)) ORDER BY x.relname), '[]')
            FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid),
        'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_array(
                tgname, pg_get_triggerdef(oid)) ORDER BY tgname, pg_get_triggerdef(oid)), '[]')
            FROM pg_trigger WHERE tgrelid IN (SELECT c.oid UNION
                    SELECT relid FROM pg_partition_tree(c.oid))
                AND tgparentid = 0 AND NOT tgisinternal AND tgenabled <> 'D'
                AND tgtype & 16 <> 0),
        'rules', (SELECT coalesce(jsonb_agg(rulename ORDER BY rulename), '[]')
            FROM pg_rewrite WHERE ev_class = c.oid AND ev_type <> '1'))
    INTO found FROM pg_class c WHERE c.oid = {table}::regclass;
    IF found IS DISTINCT FROM {facts} THEN
        RAISE EXCEPTION 'the table is not the one that was reviewed'
            USING HINT = 'Nothing was changed. Make the plan again.';
    END IF;
END
{tag}"""

_CODE = """\
SELECT string_agg(format('%s %s%s (role %s)', kind, object, called, owner), '; ') AS found
FROM (
    SELECT kind, object, CASE WHEN function <> '' THEN ' calls ' || function ELSE '' END AS called,
           owner
    FROM (
{query}
    ) AS code
) AS told
WHERE format('%s %s%s (role %s)', kind, object, called, owner) <> ALL (ARRAY[{known}]::text[])"""

_TRUST = """\
DO $trust$
DECLARE
    found text;
    was jsonb;
BEGIN
    -- To compile it, or to read whole catalogs, would take a hundred times as long as its rows do.
    SELECT jsonb_object_agg(name, current_setting(name)) INTO was
    FROM unnest(ARRAY['jit', 'enable_hashjoin', 'enable_mergejoin', 'enable_seqscan']) AS name;
    PERFORM set_config(name, 'off', true) FROM jsonb_object_keys(was) AS name;
    EXECUTE 'EXECUTE runbook_code_of_others' INTO found;
    PERFORM set_config(key, value, true) FROM jsonb_each_text(was);
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'code of another role would run with your rights: %', found
            USING HINT = 'This transaction changed nothing. Connect as that role.';
    END IF;
END
$trust$"""

_OWN_LEDGER = """\
DO $ledger$
DECLARE
    found text;
BEGIN
    SELECT string_agg(said, '; ') INTO found FROM (
{query}
    ) AS problems;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'the ledger is not the runbook''s own: %', found
            USING HINT = 'This transaction changed nothing.';
    END IF;
END
$ledger$"""

_RECORDED: LiteralString = """\
DO {tag}
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended({before}, 0))
       OR NOT pg_try_advisory_xact_lock(hashtextextended({after}, 0)) THEN
        RAISE EXCEPTION 'another run is at work on this table' USING HINT = 'Nothing was changed.';
    END IF;
    IF {run} IS NULL THEN
        RAISE EXCEPTION 'the ledger has no run of this plan that could be taken back'
            USING HINT = 'Nothing was changed. `runbook status` says what was applied.';
    END IF;
END
{tag}"""

_COMPARE: LiteralString = """\
DO $proof$
BEGIN
    IF EXISTS (SELECT FROM {after} WHERE wrong <> 0)
       OR (SELECT jsonb_agg(to_jsonb(b) - 'wrong' ORDER BY label) FROM {before} b)
          IS DISTINCT FROM
          (SELECT jsonb_agg(to_jsonb(a) - 'wrong' ORDER BY label) FROM {after} a) THEN
        RAISE EXCEPTION 'the proof failed: rows, values or labels are not as they must be'
            USING HINT = 'Nothing was changed.';
    END IF;
END
$proof$"""

COMPARED = "Compare both tallies: a difference rolls everything back"


def guard(plan: Plan, table: Table) -> Part:
    """Return the block that compares the locked table with the facts that the plan rests on."""
    facts = {
        "columns": [[c.name, c.type, c.not_null] for c in table.columns],
        "constraints": [[c.name, c.definition] for c in table.constraints],
        "indexes": [[i.name, i.definition] for i in table.indexes],
        "triggers": [[t.name, t.definition] for t in table.update_triggers],
        "rules": list(table.rules),
    }
    relation = sql.spelled(table.schema, table.name)
    return Part(
        sql=sql.render(
            _GUARD,
            tag=_tag(plan),
            table=sql.value(relation),
            key=sql.value(lock_key(table.schema, table.name)),
            facts=json(facts),
        ),
        comments=("Refuse a table that is not the one that was reviewed, and a second run",),
    )


def last_opening(statements: Sequence[Statement]) -> Statement | None:
    """Return the last statement of those that only lock and set, if any locks: from there on, a
    statement may take longer than the try for the lock."""
    locked = dropwhile(lambda one: one.role is not Role.LOCK, statements)
    opening = list(takewhile(lambda one: one.role in {Role.LOCK, Role.SETTING}, locked))
    return opening[-1] if opening else None


def names_held(plan: Plan, table: str) -> Part:
    """Return what keeps the names that the script goes by, for one transaction."""
    return Part(
        sql=hold_names([(plan.schema, table)]),
        comments=("Hold the names of schema and types, which no lock on the table does",),
    )


def trust(plan: Plan) -> Iterator[Part]:
    """Yield what finds the code of less privileged roles on the table, by either of its names, and
    refuses it: a script that psql runs has the rights of whoever started psql."""
    tables = [(plan.schema, name) for name in dict.fromkeys([plan.table_before, plan.table_after])]
    query = owner_code_query(tables, ledger_schema=plan.ledger_schema)
    known = sql.values(plan.facts.get("owner_code", ()))
    yield Part(
        sql="PREPARE runbook_code_of_others AS\n"
        + sql.render(_CODE, query=sql.raw(query), known=known),
        comments=("What of the table is code of a less privileged role",),
    )
    yield TRUST


TRUST = Part(sql=_TRUST, comments=("Refuse such code: PostgreSQL would run it with your rights",))

END_OF_TRUST = Part(sql="DEALLOCATE runbook_code_of_others")


def own_ledger(ledger_schema: str) -> Part:
    """Return the block that refuses somebody else's ledger."""
    return Part(
        sql=sql.render(_OWN_LEDGER, query=sql.raw(problems_query(ledger_schema))),
        comments=("Refuse a ledger that is somebody else's, or has code of theirs",),
    )


def recorded(plan: Plan, run: sql.Composable) -> Part:
    """Return the block that refuses the way back of a plan that is not applied, or while another
    run is at work; `run` is the expression for the run's id."""
    names = {"before": plan.table_before, "after": plan.table_after}
    keys = {key: sql.value(lock_key(plan.schema, name)) for key, name in names.items()}
    return Part(
        sql=sql.render(_RECORDED, tag=_tag(plan), run=run, **keys),
        comments=("Refuse where this plan is not applied, and beside another run",),
    )


def compare(before: str, after: str) -> Part:
    """Return the block that compares two tallies, each in a temporary table."""
    names = {"before": sql.name("pg_temp", before), "after": sql.name("pg_temp", after)}
    return Part(sql=sql.render(_COMPARE, **names), comments=(COMPARED,))


def _tag(plan: Plan) -> sql.Composable:
    """Return a dollar quote's tag that no name in the block can close."""
    return sql.raw(f"$guard_{plan.sha256[:16]}$")
