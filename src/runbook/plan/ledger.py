"""The ledger's SQL: making it, and recording a run in it, within the migration's transaction.

It is no part of the plan's hash: the ledger is the tool's own record, made once in a database, and
the run's id, counts and fingerprint are known only when it runs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import resources
from json import dumps
from typing import Any, LiteralString

from runbook import __version__, sql
from runbook.operations.base import carried_name
from runbook.plan.model import Plan
from runbook.spec import Spec
from runbook.trust.ledger import home


def create_ledger(ledger_schema: str) -> str:
    """Return the statement that makes schema and tables where they are not there yet."""
    template = resources.files("runbook.plan").joinpath("ledger.sql").read_text("utf-8").strip()
    ledger = sql.name(ledger_schema, "ledger")
    return sql.render(
        template,
        schema=ledger_schema,
        ledger=ledger,
        rollback=sql.name(ledger_schema, "rollback"),
        schema_name=sql.named(ledger_schema),
        ledger_name=sql.named(ledger_schema, "ledger"),
    )


def record_run(
    ledger_schema: str,
    spec: Spec,
    plan: Plan,
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
            table=sql.named(plan.schema, plan.table_after),
        ),
        "spec_sha256": sql.value(spec.sha256),
        "plan_sha256": sql.value(plan.sha256),
        "mode": sql.value(plan.mode),
        "tool_version": sql.value(__version__),
        "unvalidated": json(list(unvalidated(plan.facts, plan.table_before, plan.table_after))),
        "plan": sql.compose(
            "{plan} || jsonb_build_object('cutover', {cutover})",
            plan=recorded_plan(ledger_schema, plan),
            cutover=_cutover(plan),
        ),
        **measured,
    }
    return _insert(ledger_schema, "ledger", columns)


def _cutover(plan: Plan) -> sql.Composable:
    """Return the expression for what tells the rows of the run from those written since: the
    transactions that had ended, the run's own, and the tables with rows. It is evaluated under the
    run's lock, when nobody else has written to the table and not ended."""
    return sql.compose(_CUTOVER, table=sql.named(plan.schema, plan.table_after))


_CUTOVER: LiteralString = """\
(SELECT jsonb_build_object(
    'snapshot', pg_current_snapshot()::text,
    'own', pg_current_xact_id()::text,
    'tables', (SELECT jsonb_agg(oid::bigint) FROM (
        SELECT {table}::regclass UNION SELECT relid FROM pg_partition_tree({table}::regclass)
    ) AS tree (oid))))"""


def record_rollback(
    ledger_schema: str,
    run_id: sql.Composable,
    rollback_id: sql.Composable,
    measured: Mapping[str, sql.Composable],
) -> str:
    """Return the INSERT that records that a run is taken back; its own row stays as it is.

    `measured` holds rows, fingerprint and the number of labels that were lost (discarded), and may
    say who the client is: values, or expressions where the script records itself.
    """
    columns: dict[str, sql.Composable] = {
        "run_id": run_id,
        "rollback_id": rollback_id,
        "tool_version": sql.value(__version__),
        "client": sql.compose("nullif(current_setting('application_name'), '')"),
        **measured,
    }
    return _insert(ledger_schema, "rollback", columns)


def _insert(ledger_schema: str, table: str, columns: Mapping[str, sql.Composable]) -> str:
    return sql.render(
        "INSERT INTO {table} ({names})\nVALUES ({values})",
        table=sql.name(ledger_schema, table),
        names=sql.names(columns),
        values=sql.join(", ", columns.values()),
    )


def recorded_plan(ledger_schema: str, plan: Plan) -> sql.Composable:
    """Return a plan as the ledger keeps it: with where it stands, which no hash covers."""
    return sql.compose(
        "{plan} || jsonb_build_object('home', {home})",
        plan=json(asdict(plan)),
        home=home(ledger_schema),
    )


def unvalidated(facts: Mapping[str, Any], before: str, after: str) -> Iterator[str]:
    """Yield the names that foreign keys which are NOT VALID by a plan's facts have once the table
    is renamed."""
    for constraint in facts["table"]["constraints"]:
        if constraint["kind"] == "f" and not constraint["validated"]:
            name = constraint["name"]
            yield name if after == before else carried_name(name, before, after) or name


def json(content: object) -> sql.Composable:
    """Return a jsonb literal."""
    return sql.compose("{it}::jsonb", it=sql.value(dumps(content)))
