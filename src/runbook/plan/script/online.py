"""The online plan as a script for psql: two short transactions, and between them batches and index
builds."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

from runbook import sql
from runbook.facts import Table
from runbook.plan.ledger import json
from runbook.plan.model import Plan
from runbook.plan.progress import oid_of
from runbook.plan.script.atomic import counted, record
from runbook.plan.script.guard import TRUST, guard, last_opening, names_held, trust
from runbook.plan.script.part import part
from runbook.spec import Spec
from runbook.trust.settings import EMPTY_PATH_LOCALLY, FOR_SESSION, application_path
from runbook.vocabulary import Phase, Role, Statement

_BATCHES: LiteralString = """\
-- Run it for every range of 200 blocks, each in a transaction of its own: where a hash differs, the
-- batch is rolled back and the script ends
SELECT format($each$DO $batch$
DECLARE
    rows bigint; before numeric; after numeric; differing bigint; others text;
BEGIN
    EXECUTE 'EXECUTE runbook_code_of_others' INTO others;
    IF others IS NOT NULL THEN
        RAISE EXCEPTION 'code of another role would run with your rights: %%', others;
    END IF;
    {path};
    EXECUTE 'EXECUTE runbook_batch_{n} (''(%1$s,0)'', ''(%2$s,0)'')'
    INTO rows, before, after, differing;
    SET LOCAL search_path = '';
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

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED;"


def phases(spec: Spec, plan: Plan, table: Table) -> Iterator[str]:
    """Yield the script's pieces, phase by phase."""
    yield BEGIN
    expand, cutover = plan.of_phase(Phase.EXPAND), plan.of_phase(Phase.CUTOVER)
    for statement in expand:
        if statement.role is Role.LOCK:
            yield str(names_held(plan, plan.table_before))
        yield str(part(statement))
        if statement is last_opening(expand):
            yield from map(str, trust(plan))
            yield str(guard(plan, table))
    yield "COMMIT;"
    yield from _backfill(plan)
    for statement in plan.of_phase(Phase.INDEX):
        yield str(part(statement))
    yield BEGIN
    for statement in cutover:
        if statement.role is Role.LOCK:
            yield str(names_held(plan, plan.table_before))
        yield str(part(statement))
        if statement is last_opening(cutover):
            yield str(TRUST)
    yield from map(str, record(spec, plan, _measured(plan), "psql"))
    yield "COMMIT;"


def _backfill(plan: Plan) -> Iterator[str]:
    """Yield the batches and the sweep."""
    for n, statement in enumerate(plan.of_phase(Phase.BACKFILL)):
        if statement.role is Role.SETTING:
            yield str(part(statement)).replace("SET LOCAL", "SET")
        elif statement.role is Role.BATCH:
            yield str(part(statement, f"PREPARE runbook_batch_{n} (tid, tid) AS\n"))
            yield sql.render(
                _BATCHES,
                n=sql.raw(str(n)),
                table=oid_of(statement),
                path=sql.raw(_path(statement)),
            )
        elif statement.role is Role.SWEEP:
            yield str(part(statement, "CREATE TEMPORARY TABLE runbook_swept AS\n"))
            yield _SWEPT
    yield f"RESET ALL;\n{FOR_SESSION};"


def _path(statement: Statement) -> str:
    """Return what sets the search path of a batch, as it stands inside format()."""
    if not statement.application_schema:
        return EMPTY_PATH_LOCALLY
    return application_path(statement.application_schema).replace("%", "%%")


def _measured(plan: Plan) -> Mapping[str, sql.Composable]:
    """Return what the sweep counted; without a backfill the rows are counted now."""
    if any(one.role is Role.SWEEP for one in plan.statements):
        return counted("runbook_swept")
    table = sql.name(plan.schema, plan.table_after)
    return {
        "rows": sql.compose("(SELECT count(*) FROM {table})", table=table),
        "categories": json({}),
    }
