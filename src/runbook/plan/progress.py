"""The ledger's SQL for online runs: how far each came, so that it can be resumed or taken back.

Every change of a run and the note of it are one transaction: after any crash the ledger says what
the database holds.
"""

from collections.abc import Iterable
from importlib import resources

from runbook import __version__, sql
from runbook.plan.ledger import json, recorded_plan
from runbook.plan.model import Plan
from runbook.trust.ledger import home
from runbook.vocabulary import Role, Statement

RUNS, SPANS = "online_run", "online_span"


def create_progress(ledger_schema: str) -> str:
    """Return the statement that makes the tables where they are not there yet; the ledger's own
    table comes before them."""
    runs = sql.name(ledger_schema, RUNS)
    template = resources.files("runbook.plan").joinpath("progress.sql").read_text("utf-8").strip()
    return sql.render(
        template,
        runs=runs,
        spans=sql.name(ledger_schema, SPANS),
        runs_name=sql.named(ledger_schema, RUNS),
    )


def start_run(ledger_schema: str, run_id: str, plan: Plan, table_oid: int) -> str:
    """Return the statements that note a run which has expanded, and all blocks as its work."""
    columns: dict[str, sql.Composable] = {
        "run_id": sql.value(run_id),
        "migration": sql.value(plan.migration),
        "table_schema": sql.value(plan.schema),
        "table_before": sql.value(plan.table_before),
        "table_oid": sql.value(table_oid),
        "spec_sha256": sql.value(plan.spec_sha256),
        "plan_sha256": sql.value(plan.sha256),
        "plan": recorded_plan(ledger_schema, plan),
        "tool_version": sql.value(__version__),
        "phase": sql.value("backfill"),
        "client": sql.compose("nullif(current_setting('application_name'), '')"),
    }
    tables = [oid_of(one) for one in plan.statements if one.role is Role.BATCH]
    return sql.render(
        "INSERT INTO {runs} ({names})\nVALUES ({values})",
        runs=sql.name(ledger_schema, RUNS),
        names=sql.names(columns),
        values=sql.join(", ", columns.values()),
    ) + "".join(";\n" + sql.text(_add_span(ledger_schema, run_id, table)) for table in tables)


def adopt_run(ledger_schema: str, run_id: str, table_oid: int, batches: Iterable[Statement]) -> str:
    """Return the statements that have a run of a restored database go on in it: its table and its
    blocks are others there. Those of the tables that `batches` are for are work once more; what was
    done stays noted."""
    return sql.render(
        "UPDATE {runs} SET table_oid = {oid}, whole = NULL,\n"
        "    plan = plan || jsonb_build_object('home', {home}) WHERE run_id = {run_id};\n"
        "UPDATE {spans} SET end_block = next_block, table_oid = 0, filenode = 0\n"
        "WHERE run_id = {run_id}",
        runs=sql.name(ledger_schema, RUNS),
        spans=sql.name(ledger_schema, SPANS),
        oid=sql.value(table_oid),
        home=home(ledger_schema),
        run_id=sql.value(run_id),
    ) + "".join(";\n" + sql.text(_add_span(ledger_schema, run_id, oid_of(one))) for one in batches)


def oid_of(batch: Statement) -> sql.Composable:
    """Return the expression for the OID of the table that a batch is for."""
    assert batch.table is not None
    return sql.compose("{name}::regclass", name=sql.named(*batch.table))


def restart_backfill(ledger_schema: str, run_id: str, table_oid: int) -> str:
    """Return the statements that have the backfill of a table begin again over its blocks as they
    lie now; what was done stays noted."""
    return sql.render(
        "UPDATE {spans} SET end_block = next_block\n"
        "WHERE run_id = {run_id} AND table_oid = {oid};\n{span}",
        spans=sql.name(ledger_schema, SPANS),
        run_id=sql.value(run_id),
        oid=sql.value(table_oid),
        span=_add_span(ledger_schema, run_id, sql.compose("{oid}::oid", oid=sql.value(table_oid))),
    )


def enter_phase(ledger_schema: str, run_id: str, phase: str) -> str:
    """Return the statement that notes the phase that comes next."""
    return sql.render(
        "UPDATE {runs} SET phase = {phase} WHERE run_id = {run_id}",
        runs=sql.name(ledger_schema, RUNS),
        phase=sql.value(phase),
        run_id=sql.value(run_id),
    )


def note_whole(ledger_schema: str, run_id: str, content: object) -> str:
    """Return the statement that notes what the whole table was before the first batch."""
    return sql.render(
        "UPDATE {runs} SET whole = {content} WHERE run_id = {run_id}",
        runs=sql.name(ledger_schema, RUNS),
        content=json(content),
        run_id=sql.value(run_id),
    )


def end_run(ledger_schema: str, run_id: str, outcome: str) -> str:
    """Return the statement that notes how a run ended."""
    return sql.render(
        "UPDATE {runs} SET ended_at = clock_timestamp(), outcome = {outcome}\n"
        "WHERE run_id = {run_id}",
        runs=sql.name(ledger_schema, RUNS),
        outcome=sql.value(outcome),
        run_id=sql.value(run_id),
    )


def add_span(ledger_schema: str, run_id: str, table_oid: int, first: int, end: int) -> str:
    """Return the INSERT of a range of blocks that is to be done; it returns span and file."""
    return sql.text(
        _add_span(
            ledger_schema,
            run_id,
            sql.compose("{oid}::oid", oid=sql.value(table_oid)),
            sql.value(first),
            sql.value(end),
        )
    )


def _add_span(
    ledger_schema: str,
    run_id: str,
    table: sql.Composable,
    first: sql.Composable | None = None,
    end: sql.Composable | None = None,
) -> sql.Composable:
    """Return the INSERT of a range of a table's blocks, or of all of them."""
    return sql.compose(
        "INSERT INTO {spans} (run_id, span, table_oid, filenode, first_block, next_block, "
        "end_block)\n"
        "SELECT {run_id}, coalesce(max(span), 0) + 1, {table}, pg_relation_filenode({table}),\n"
        "    {first}, {first}, {end}\n"
        "FROM {spans} WHERE run_id = {run_id}\nRETURNING span, filenode::bigint",
        spans=sql.name(ledger_schema, SPANS),
        run_id=sql.value(run_id),
        table=table,
        first=first or sql.value(0),
        end=end
        or sql.compose(
            "pg_relation_size({table}) / current_setting('block_size')::bigint", table=table
        ),
    )


def cut_span(ledger_schema: str, run_id: str, span: int, end: int) -> str:
    """Return the statement that has a span end earlier."""
    return sql.render(
        "UPDATE {spans} SET end_block = {end} WHERE run_id = {run_id} AND span = {span}",
        spans=sql.name(ledger_schema, SPANS),
        run_id=sql.value(run_id),
        span=sql.value(span),
        end=sql.value(end),
    )


def note_batch(ledger_schema: str, run_id: str) -> str:
    """Return the statement that notes a batch in its own transaction.

    `$1` to `$7` are the span, the block it was at, the next one, rows, both sums and milliseconds.
    It returns nothing where the table lies elsewhere by now (VACUUM FULL, CLUSTER, TRUNCATE), or
    where somebody else has worked on the span: then the batch must be rolled back.
    """
    return sql.render(
        "UPDATE {spans} SET next_block = $3, batches = batches + 1, rows = rows + $4,\n"
        "    hashes_before = hashes_before + $5, hashes_after = hashes_after + $6,\n"
        "    worked_ms = worked_ms + $7\n"
        "WHERE run_id = {run_id} AND span = $1 AND next_block = $2\n"
        "    AND filenode = pg_relation_filenode(table_oid)\nRETURNING 1",
        spans=sql.name(ledger_schema, SPANS),
        run_id=sql.value(run_id),
    )
