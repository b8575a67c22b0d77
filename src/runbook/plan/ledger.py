"""The ledger's SQL: making it, and recording a run in it, within the migration's transaction.

It is no part of the plan's hash: the ledger is the tool's own record, made once in a database, and
the run's id, counts and fingerprint are known only when it runs.
"""

from collections.abc import Mapping
from importlib import resources

from psycopg.types.json import Jsonb

from runbook import __version__, sql
from runbook.facts import Table
from runbook.operations.base import carried_name
from runbook.plan.model import Plan
from runbook.spec import Spec


def create_ledger(ledger_schema: str) -> str:
    """Return the statement that makes schema and table where they are not there yet."""
    template = resources.files("runbook.plan").joinpath("ledger.sql").read_text("utf-8").strip()
    ledger = sql.name(ledger_schema, "ledger")
    return sql.render(
        template,
        schema=ledger_schema,
        ledger=ledger,
        schema_name=sql.value(sql.text(sql.name(ledger_schema))),
        ledger_name=sql.value(sql.text(ledger)),
    )


def record_run(
    ledger_schema: str,
    spec: Spec,
    plan: Plan,
    table: Table,
    measured: Mapping[str, sql.Composable],
) -> str:
    """Return the INSERT that records a run.

    `measured` holds what only the run knows (run_id, rows, categories, client, algorithm,
    fingerprint): values, or expressions where the script records itself.
    """
    columns: dict[str, sql.Composable] = {
        "migration": sql.value(plan.migration),
        "table_schema": sql.value(plan.schema),
        "table_before": sql.value(plan.table_before),
        "table_after": sql.value(plan.table_after),
        "table_oid": sql.compose(
            "{table}::regclass",
            table=sql.value(sql.text(sql.name(plan.schema, plan.table_after))),
        ),
        "spec_sha256": sql.value(spec.sha256),
        "plan_sha256": sql.value(plan.sha256),
        "mode": sql.value(plan.mode),
        "tool_version": sql.value(__version__),
        "unvalidated": json(list(unvalidated(table, plan.table_after))),
        "statements": json(
            [{"sql": one.sql, "phase": one.phase, "undo": one.undo} for one in plan.statements]
        ),
        **measured,
    }
    return sql.render(
        "INSERT INTO {ledger} ({names})\nVALUES ({values})",
        ledger=sql.name(ledger_schema, "ledger"),
        names=sql.names(columns),
        values=sql.join(", ", columns.values()),
    )


def unvalidated(table: Table, after: str) -> tuple[str, ...]:
    """Return the names that the NOT VALID foreign keys will have once the table is `after`."""
    names = (c.name for c in table.constraints if c.kind == "f" and not c.validated)
    if after == table.name:
        return tuple(names)
    return tuple(carried_name(name, table.name, after) or name for name in names)


def json(content: object) -> sql.Composable:
    """Return a jsonb literal."""
    return sql.value(Jsonb(content))
