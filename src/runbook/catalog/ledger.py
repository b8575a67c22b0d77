"""Reading the ledger: what was applied to this database before."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from runbook import sql
from runbook.facts import LedgerEntry
from runbook.spec import Spec


def read_applied(
    connection: psycopg.Connection[Any], ledger_schema: str, spec: Spec
) -> LedgerEntry | None:
    """Return the newest applied run of the migration whose table still is what it left behind.

    A table that was dropped and made again has another OID, and a name that changed since says that
    somebody took the migration back: both count as not applied.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        state = cursor.execute(_STATE, [ledger_schema]).fetchone()
        if state is None or not state["readable"] or not state["ours"]:
            return None
        cursor.execute(
            sql.render(_APPLIED, ledger=sql.name(ledger_schema, "ledger")).encode(),
            {"migration": spec.name, "schema": spec.schema_, "table": spec.table_after},
        )
        row = cursor.fetchone()
    return LedgerEntry(**{**row, "unvalidated": tuple(row["unvalidated"])}) if row else None


def is_foreign(connection: psycopg.Connection[Any], ledger_schema: str) -> bool:
    """Return whether something that is no ledger of ours has the ledger's name."""
    with connection.cursor(row_factory=dict_row) as cursor:
        state = cursor.execute(_STATE, [ledger_schema]).fetchone()
    return state is not None and not state["ours"]


_STATE = """\
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
       c.relkind = 'r' AND NOT c.relhastriggers AND NOT c.relhasrules
       -- Its owner's code would run as whoever writes into it.
       AND (o.rolsuper OR o.rolname = current_user OR o.oid = d.datdba) AND 2 = (
           SELECT count(*) FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attname IN ('run_id', 'plan_sha256')) AS ours
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles o ON o.oid = c.relowner
JOIN pg_database d ON d.datname = current_database()
WHERE n.nspname = %s AND c.relname = 'ledger'"""


_APPLIED = """\
SELECT l.run_id::text, l.migration, l.table_schema, l.table_before, l.table_after,
       l.table_oid::bigint, l.spec_sha256, l.plan_sha256, l.mode, l.applied_by,
       to_char(l.applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS applied_at,
       l.rows, l.categories, l.unvalidated, l.fingerprint
FROM {ledger} l
JOIN pg_class c ON c.oid = l.table_oid AND c.relname = l.table_after
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = l.table_schema
WHERE l.migration = %(migration)s AND l.table_schema = %(schema)s AND l.table_after = %(table)s
ORDER BY l.applied_at DESC LIMIT 1"""
