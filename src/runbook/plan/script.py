"""The plan as a script that psql runs to the same end state, ledger row and proof included."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

from runbook import __version__, sql
from runbook.catalog.ledger import lock_key
from runbook.facts import Table
from runbook.plan.digest import algorithm
from runbook.plan.ledger import create_ledger, json, record_run
from runbook.plan.model import Plan
from runbook.plan.progress import oid_of
from runbook.plan.tally import ALGORITHM
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role, Statement

_HEAD = """\
-- {heading}
-- plan {sha256}
-- made by migration-runbook {version}; run it with: psql -X -v ON_ERROR_STOP=1 -f FILE
{about}

\\set ON_ERROR_STOP on
\\encoding UTF8
"""

_ABOUT = {
    "atomic": "-- Everything after BEGIN is one transaction: it is all applied, or nothing is.",
    "online": """\
-- The application may go on meanwhile. Two short transactions lock the table; where the lock is not
-- to be had at once, the script ends and cannot be resumed: the runbook tries again, and resumes.
-- Each batch tells its rows and their hashes before and after; where one differs, the script ends.
-- What was committed before an error stays: the undo lines take it back, the last one first.""",
}

_BATCHES: LiteralString = """\
-- Run it for every range of 200 blocks, each in a transaction of its own: where a hash differs, the
-- batch is rolled back and the script ends
SELECT format($each$DO $batch$
DECLARE
    rows bigint; before numeric; after numeric; differing bigint;
BEGIN
    EXECUTE 'EXECUTE runbook_batch_{n} (''(%1$s,0)'', ''(%2$s,0)'')'
    INTO rows, before, after, differing;
    IF differing <> 0 THEN
        RAISE EXCEPTION 'the proof failed: %% of %% rows had a value of another column altered',
                differing, rows
            USING HINT = 'The batch was rolled back. Most likely a trigger alters data.';
    END IF;
    RAISE NOTICE 'blocks %1$s to %2$s: %% rows, hashes before %%, after %%', rows, before, after;
END
$batch$$each$, at, at + 200)
FROM generate_series(0, pg_relation_size({table})
                        / current_setting('block_size')::bigint, 200) AS at
\\gexec"""

_SWEPT = """\
-- Stop where a row is left, locked by somebody while its batch ran
DO $swept$
BEGIN
    IF EXISTS (SELECT FROM pg_temp.runbook_swept WHERE wrong <> 0) THEN
        RAISE EXCEPTION 'rows are left that are not classified as the rules say'
            USING HINT = 'Run the batches again.';
    END IF;
END
$swept$;"""

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

_COMPARE_DIGESTS = """\
DO $proof$
DECLARE
    differing text;
BEGIN
    SELECT string_agg(range::text, ', ' ORDER BY range) INTO differing
    FROM pg_temp.runbook_digests_before b
    FULL JOIN pg_temp.runbook_digests_after a USING (range)
    WHERE (a.rows, a.digest) IS DISTINCT FROM (b.rows, b.digest);
    IF differing IS NOT NULL THEN
        RAISE EXCEPTION 'the proof failed: ranges % of the key differ', differing
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

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED;"

_COUNTED = "(SELECT coalesce(sum(rows), 0) FROM pg_temp.{counted})"
_CATEGORIES = (
    "(SELECT coalesce(jsonb_object_agg(label, rows), '{{}}') FROM (SELECT label, sum(rows) AS rows"
    " FROM pg_temp.{counted} WHERE label IS NOT NULL GROUP BY label) AS counted)"
)

_HASHES = "(SELECT coalesce(sum(hashes), 0)::text FROM pg_temp.runbook_after)"

_MEASURED: Mapping[str, sql.Composable] = {
    "rows": sql.compose(_COUNTED, counted="runbook_after"),
    "categories": sql.compose(_CATEGORIES, counted="runbook_after"),
    "algorithm": sql.value(ALGORITHM),
    "fingerprint": sql.compose(_HASHES),
    "hashes": sql.compose(_HASHES),
}


_DIGESTED: Mapping[str, sql.Composable] = {
    "fingerprint": sql.compose(
        "(SELECT encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY range), '')), 'hex')"
        " FROM pg_temp.runbook_digests_after)"
    ),
}


def _measured_atomic(plan: Plan, table: Table) -> Mapping[str, sql.Composable]:
    """Return what the tallies counted, and the fingerprint by the proof that the plan has."""
    if any(one.role is Role.DIGEST_AFTER for one in plan.statements):
        return {**_MEASURED, **_DIGESTED, "algorithm": sql.value(algorithm(table))}
    return _MEASURED


def _measured_online(plan: Plan) -> Mapping[str, sql.Composable]:
    """Return what the sweep counted; without a backfill the rows are counted now."""
    if any(one.role is Role.SWEEP for one in plan.statements):
        return {
            "rows": sql.compose(_COUNTED, counted="runbook_swept"),
            "categories": sql.compose(_CATEGORIES, counted="runbook_swept"),
        }
    table = sql.name(plan.schema, plan.table_after)
    return {
        "rows": sql.compose("(SELECT count(*) FROM {table})", table=table),
        "categories": json({}),
    }


def script(spec: Spec, plan: Plan, table: Table) -> str:
    """Return the script. Atomic, it changes nothing when any statement or the proof fails."""
    parts = _online(spec, plan, table) if plan.mode == "online" else _atomic(spec, plan, table)
    head = _HEAD.format(
        heading=" ".join(spec.heading.split()),
        sha256=plan.sha256,
        version=__version__,
        about=_ABOUT[plan.mode],
    )
    reasons = [f"-- {' '.join(reason.split())}" for reason in plan.reasons]
    prepare = [_entry(statement) for statement in plan.of_phase(Phase.PREPARE)]
    return "\n\n".join([head + "\n".join(reasons), *prepare, *parts, *_later(plan)]) + "\n"


def _atomic(spec: Spec, plan: Plan, table: Table) -> Iterator[str]:
    """Yield one transaction."""
    guard = _guard(plan, table)
    yield _BEGIN
    for statement in plan.of_phase(Phase.ATOMIC):
        yield from _entries(statement, guard)
    yield f"-- Make the ledger where it is not there yet\n{create_ledger(plan.ledger_schema)};"
    yield f"-- Record the run\n{_record(spec, plan, _measured_atomic(plan, table))};"
    yield "COMMIT;"


def _online(spec: Spec, plan: Plan, table: Table) -> Iterator[str]:
    """Yield the phases: two short transactions, and between them batches and index builds."""
    yield _BEGIN
    for statement in plan.of_phase(Phase.EXPAND):
        yield from _entries(statement, _guard(plan, table))
    yield "COMMIT;"
    for n, statement in enumerate(plan.of_phase(Phase.BACKFILL)):
        if statement.role is Role.SETTING:
            yield _entry(statement).replace("SET LOCAL", "SET")
        elif statement.role is Role.BATCH:
            yield _entry(statement, f"PREPARE runbook_batch_{n} (tid, tid) AS\n")
            yield sql.render(_BATCHES, n=sql.raw(str(n)), table=oid_of(statement))
        elif statement.role is Role.SWEEP:
            yield _entry(statement, "CREATE TEMPORARY TABLE runbook_swept AS\n")
            yield _SWEPT
    yield "RESET ALL;"
    for statement in plan.of_phase(Phase.INDEX):
        yield _entry(statement)
    yield _BEGIN
    for statement in plan.of_phase(Phase.CUTOVER):
        yield _entry(statement)
    yield f"-- Make the ledger where it is not there yet\n{create_ledger(plan.ledger_schema)};"
    yield f"-- Record the run\n{_record(spec, plan, _measured_online(plan))};"
    yield "COMMIT;"


_LATER = {
    Phase.CONTRACT: "For later: what `runbook contract` runs, once nobody uses the old name",
    Phase.ROLLBACK: "The way back: what `runbook rollback` runs to undo all of the above",
}


def _later(plan: Plan) -> Iterator[str]:
    """Yield what other commands would run, to be read alone."""
    for phase, title in _LATER.items():
        entries = [_entry(statement) for statement in plan.of_phase(phase)]
        if entries:
            lines = "\n\n".join(entries).splitlines()
            yield "\n".join([f"-- {title}", "--", *(f"-- {line}".rstrip() for line in lines)])


def _entries(statement: Statement, guard: str) -> Iterator[str]:
    """Yield a statement; tallies go into temporary tables, and the second is compared."""
    if statement.role is Role.TALLY_BEFORE:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_before ON COMMIT DROP AS\n")
    elif statement.role is Role.TALLY_AFTER:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_after ON COMMIT DROP AS\n")
        yield f"-- Compare both tallies: a difference rolls everything back\n{_COMPARE};"
    elif statement.role is Role.BOUNDS:
        yield _entry(statement).removesuffix(";") + "\n\\gset runbook_"
    elif statement.role in {Role.DIGEST_BEFORE, Role.DIGEST_AFTER}:
        yield from _digests(statement)
    elif statement.role not in _ONLY_RUN:
        yield _entry(statement)
    if statement.role is Role.LOCK:
        yield f"-- Refuse a table that is not the one that was reviewed, and a second run\n{guard};"


_ONLY_RUN = (Role.SAVEPOINT, Role.ROWS_BEFORE, Role.ROWS_AFTER)
"""What only the runbook does: it names the rows that differ."""


def _digests(statement: Statement) -> Iterator[str]:
    """Yield what takes the digests of the ranges; the second ones are compared."""
    name = f"runbook_digests_{'before' if statement.role is Role.DIGEST_BEFORE else 'after'}"
    yield _entry(statement, f"PREPARE {name} (jsonb) AS\n")
    yield f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS\nEXECUTE {name} (:'runbook_bounds');"
    if statement.role is Role.DIGEST_AFTER:
        yield f"-- Compare the ranges: a difference rolls everything back\n{_COMPARE_DIGESTS};"


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
        key=sql.value(lock_key(table.schema, table.name)),
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


def _record(spec: Spec, plan: Plan, measured: Mapping[str, sql.Composable]) -> str:
    """Return the ledger's INSERT, with what only the run knows as expressions."""
    run_id, client = sql.compose("gen_random_uuid()"), sql.value("psql")
    return record_run(
        plan.ledger_schema, spec, plan, {"run_id": run_id, "client": client, **measured}
    )
