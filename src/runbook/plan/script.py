"""The plan as a script that psql runs to the same end state, ledger row and proof included."""

from collections.abc import Iterator
from itertools import chain
from typing import LiteralString

from runbook import __version__, sql
from runbook.facts import Table
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.plan.model import Plan
from runbook.plan.tally import ALGORITHM
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role, Statement

_HEAD = """\
-- {heading}
-- plan {sha256}
-- made by migration-runbook {version}; run it with: psql -X -v ON_ERROR_STOP=1 -f FILE
-- Everything after BEGIN is one transaction: it is all applied, or nothing is.

\\set ON_ERROR_STOP on
\\encoding UTF8
"""

_COMPARE = """\
DO $proof$
BEGIN
    IF EXISTS (SELECT FROM pg_temp.runbook_after WHERE wrong <> 0)
       OR (SELECT jsonb_agg(to_jsonb(b) - 'wrong' ORDER BY label) FROM pg_temp.runbook_before b)
          IS DISTINCT FROM
          (SELECT jsonb_agg(to_jsonb(a) - 'wrong' ORDER BY label) FROM pg_temp.runbook_after a) THEN
        RAISE EXCEPTION 'the proof failed: rows, values or labels are not as they must be'
            USING HINT = 'Nothing was changed.';
    END IF;
END
$proof$"""

_GUARD: LiteralString = """\
DO {tag}
DECLARE
    path text := current_setting('search_path');
    found jsonb;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended({key}, 0)) THEN
        RAISE EXCEPTION 'another run is at work on this table' USING HINT = 'Nothing was changed.';
    END IF;
    PERFORM set_config('search_path', '', true);
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
                tgname, pg_get_triggerdef(oid)) ORDER BY tgname), '[]')
            FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgenabled <> 'D'
                AND tgtype & 16 <> 0),
        'rules', (SELECT coalesce(jsonb_agg(rulename ORDER BY rulename), '[]')
            FROM pg_rewrite WHERE ev_class = c.oid AND ev_type <> '1'))
    INTO found FROM pg_class c WHERE c.oid = {table}::regclass;
    PERFORM set_config('search_path', path, true);
    IF found IS DISTINCT FROM {facts} THEN
        RAISE EXCEPTION 'the table is not the one that was reviewed'
            USING HINT = 'Nothing was changed. Make the plan again.';
    END IF;
END
{tag}"""

_ROWS = "(SELECT coalesce(sum(rows), 0) FROM pg_temp.runbook_after)"
_CATEGORIES = (
    "(SELECT coalesce(jsonb_object_agg(label, rows) FILTER (WHERE label IS NOT NULL), '{{}}')"
    " FROM pg_temp.runbook_after)"
)
_FINGERPRINT = "(SELECT coalesce(sum(hashes), 0)::text FROM pg_temp.runbook_after)"


def script(spec: Spec, plan: Plan, table: Table, ledger_schema: str) -> str:
    """Return the script. It changes nothing when any statement or the proof fails."""
    head = _HEAD.format(
        heading=" ".join(spec.heading.split()), sha256=plan.sha256, version=__version__
    )
    reasons = [f"-- {' '.join(reason.split())}" for reason in plan.reasons]
    guard = _guard(plan, table)
    prepare = [_entry(statement) for statement in plan.of_phase(Phase.PREPARE)]
    body = chain.from_iterable(_entries(one, guard) for one in plan.of_phase(Phase.ATOMIC))
    ledger = [
        f"-- Make the ledger where it is not there yet\n{create_ledger(ledger_schema)};",
        f"-- Record the run\n{_record(spec, plan, table, ledger_schema)};",
    ]
    return (
        "\n\n".join(
            [
                head + "\n".join(reasons),
                *prepare,
                "BEGIN ISOLATION LEVEL READ COMMITTED;",
                *body,
                *ledger,
                "COMMIT;",
            ]
        )
        + "\n"
    )


def _entries(statement: Statement, guard: str) -> Iterator[str]:
    """Yield a statement; tallies go into temporary tables, and the second is compared."""
    if statement.role is Role.TALLY_BEFORE:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_before ON COMMIT DROP AS\n")
    elif statement.role is Role.TALLY_AFTER:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_after ON COMMIT DROP AS\n")
        yield f"-- Compare both tallies: a difference rolls everything back\n{_COMPARE};"
    else:
        yield _entry(statement)
    if statement.role is Role.LOCK:
        yield f"-- Refuse a table that is not the one that was reviewed, and a second run\n{guard};"


def _guard(plan: Plan, table: Table) -> str:
    """Return the block that compares the locked table with the facts that the plan rests on."""
    facts = {
        "columns": [[c.name, c.type, c.not_null] for c in table.columns],
        "constraints": [[c.name, c.definition] for c in table.constraints],
        "indexes": [[i.name, i.definition] for i in table.indexes],
        "triggers": [[t.name, t.definition] for t in table.update_triggers],
        "rules": list(table.rules),
    }
    relation = sql.text(sql.name(table.schema, table.name))
    return sql.render(
        _GUARD,
        tag=_tag(plan),
        table=sql.value(relation),
        key=sql.value(f"runbook/{table.schema}.{table.name}"),
        facts=json(facts),
    )


def _tag(plan: Plan) -> sql.Composable:
    """Return a dollar quote's tag that no name in the block can close."""
    return sql.raw(f"$guard_{plan.sha256[:16]}$")


def _entry(statement: Statement, prefix: str = "") -> str:
    """Return a statement with a comment on what it does, its lock and its undo."""
    # A name may hold a line break, and what follows it must not leave the comment.
    title, undo = (" ".join((text or "").split()) for text in (statement.title, statement.undo))
    notes = [f"-- {title} [{statement.phase}, lock: {statement.lock}]"]
    notes += [f"-- undo: {undo}"] if undo else []
    return "\n".join(notes) + f"\n{prefix}{statement.sql};"


def _record(spec: Spec, plan: Plan, table: Table, ledger_schema: str) -> str:
    """Return the ledger's INSERT, with what only the run knows taken from the tallies."""
    return record_run(
        ledger_schema,
        spec,
        plan,
        table,
        {
            "run_id": sql.compose("gen_random_uuid()"),
            "client": sql.value("psql"),
            "rows": sql.compose(_ROWS),
            "categories": sql.compose(_CATEGORIES),
            "algorithm": sql.value(ALGORITHM),
            "fingerprint": sql.compose(_FINGERPRINT),
        },
    )
