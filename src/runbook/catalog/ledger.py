"""Reading the ledger: what was applied to this database before.

What it says is data. Whether it may be believed is asked first: by `trust.ledger` of who owns it,
and by `plan.remade` of the plans that stand in it.
"""

from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from runbook import sql
from runbook.catalog.queries import LOCK_HOLDER
from runbook.facts import Cutover, LedgerEntry, Recorded, Span, Unfinished
from runbook.spec import Spec
from runbook.trust.ledger import TABLES, home


def read_applied(
    connection: psycopg.Connection[Any], ledger_schema: str, spec: Spec
) -> LedgerEntry | None:
    """Return the newest applied run of the migration whose table still is what it left behind.

    A table that was dropped and made again has another OID, and a name that changed since says that
    somebody took the migration back: both count as not applied, as a run that was taken back does.
    Where the database was restored from a dump since, every OID is another: there the name decides.
    """
    row = _run(connection, ledger_schema, spec, _APPLIED)
    return _entry(row) if row else None


def read_recorded(
    connection: psycopg.Connection[Any], ledger_schema: str, spec: Spec
) -> Recorded | None:
    """Return the run of the migration that a rollback means, or None if none was ever recorded.

    It is the newest one that is applied as far as the names tell, else the newest of all. What the
    spec says is asked for no more than its name, its schema and one of the table's two names.
    """
    row = _run(connection, ledger_schema, spec, _RECORDED)
    if row is None:
        return None
    own = {name: row.pop(name) for name in ("taken_back_at", "taken_back_by")}
    return Recorded(ledger_schema=ledger_schema, entry=_entry(row), **own)


def _run(
    connection: psycopg.Connection[Any], ledger_schema: str, spec: Spec, query: LiteralString
) -> dict[str, Any] | None:
    """Return the row that a query finds in the ledger, if it can be read, and is one."""
    tables = ("ledger", "rollback")
    with connection.cursor(row_factory=dict_row) as cursor:
        states = [_state(cursor, ledger_schema, table) for table in tables]
        if not all(state and state["readable"] for state in states):
            return None
        parts = {table: sql.name(ledger_schema, table) for table in tables}
        place = home(ledger_schema)
        wanted = {
            "migration": spec.name,
            "schema": spec.schema_,
            "before": spec.table,
            "after": spec.table_after,
        }
        return cursor.execute(
            sql.render(query, entry=sql.compose(_ENTRY, home=place), home=place, **parts).encode(),
            wanted,
        ).fetchone()


def _entry(row: dict[str, Any]) -> LedgerEntry:
    noted = row["cutover"]
    cutover = noted and Cutover(
        snapshot=noted["snapshot"], own=int(noted["own"]), tables=tuple(noted["tables"])
    )
    return LedgerEntry(**{**row, "cutover": cutover})


def read_unfinished(
    connection: psycopg.Connection[Any], ledger_schema: str, spec: Spec
) -> Unfinished | None:
    """Return the online run on the spec's table that has not ended, or None."""
    with connection.cursor(row_factory=dict_row) as cursor:
        state = _state(cursor, ledger_schema, "online_run")
        if state is None or not state["readable"]:
            return None
        query = sql.render(
            _UNFINISHED,
            runs=sql.name(ledger_schema, "online_run"),
            spans=sql.name(ledger_schema, "online_span"),
            home=home(ledger_schema),
        )
        row = cursor.execute(
            query.encode(), {"schema": spec.schema_, "table": spec.table}
        ).fetchone()
        if row is None:
            return None
        holder = cursor.execute(LOCK_HOLDER, [lock_key(spec.schema_, spec.table)]).fetchone()
    spans = tuple(Span(**span) for span in row.pop("spans"))
    return Unfinished(**row, spans=spans, at_work=holder["who"] if holder else None)


def lock_key(schema: str, table: str) -> str:
    """Return what the advisory lock of a table's runs is made from."""
    return f"runbook/{schema}.{table}"


def is_hidden(connection: psycopg.Connection[Any], ledger_schema: str) -> bool:
    """Return whether the ledger is there, and the connected role may not read it."""
    with connection.cursor(row_factory=dict_row) as cursor:
        states = [_state(cursor, ledger_schema, table) for table in TABLES]
    return any(state is not None and not state["readable"] for state in states)


def _state(
    cursor: psycopg.Cursor[dict[str, Any]], ledger_schema: str, table: str
) -> dict[str, Any] | None:
    """Return whether a table of the ledger can be read; None if it is not there."""
    return cursor.execute(_STATE, {"schema": ledger_schema, "table": table}).fetchone()


_STATE = """\
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s"""


_ENTRY: LiteralString = """\
l.run_id::text, l.migration, l.table_schema, l.table_before, l.table_after,
       coalesce(c.oid, l.table_oid)::bigint AS table_oid,
       coalesce(c.oid <> l.table_oid, false) AS is_restored,
       l.spec_sha256, l.plan_sha256, l.mode, l.applied_by, l.client,
       to_char(l.applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS applied_at,
       l.rows, l.categories, l.fingerprint, l.hashes, l.plan,
       -- In a database that was restored since, other transactions have these numbers.
       CASE WHEN l.plan ->> 'home' = {home} THEN l.plan -> 'cutover' END AS cutover"""

_APPLIED: LiteralString = """\
SELECT {entry}
FROM {ledger} l
JOIN pg_namespace n ON n.nspname = l.table_schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = l.table_after AND c.relkind IN ('r', 'p')
    AND (c.oid = l.table_oid OR l.plan ->> 'home' <> {home})
WHERE l.migration = %(migration)s AND l.table_schema = %(schema)s AND l.table_after = %(after)s
  AND NOT EXISTS (SELECT FROM {rollback} r WHERE r.run_id = l.run_id)
ORDER BY l.applied_at DESC LIMIT 1"""

_RECORDED: LiteralString = """\
SELECT {entry}, r.rolled_back_by AS taken_back_by,
       to_char(r.rolled_back_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS taken_back_at
FROM {ledger} l
LEFT JOIN {rollback} r USING (run_id)
LEFT JOIN pg_class c ON c.relname = l.table_after AND c.relkind IN ('r', 'p')
    AND c.relnamespace = to_regnamespace(quote_ident(l.table_schema))
    AND (c.oid = l.table_oid OR l.plan ->> 'home' <> {home})
WHERE l.migration = %(migration)s AND l.table_schema = %(schema)s
  AND (l.table_before = %(before)s OR l.table_after = %(after)s)
ORDER BY r.run_id IS NULL AND c.oid IS NOT NULL DESC, l.applied_at DESC LIMIT 1"""

_UNFINISHED = """\
SELECT r.run_id::text, r.migration, r.table_schema, r.table_before,
       c.oid::bigint AS table_oid, c.oid <> r.table_oid AS is_restored,
       r.spec_sha256, r.plan_sha256, r.plan, r.phase, r.whole, r.started_by,
       to_char(r.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started_at,
       s.*
FROM {runs} r
JOIN pg_namespace n ON n.nspname = r.table_schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_before
    AND c.relkind IN ('r', 'p')
    AND (c.oid = r.table_oid OR r.plan ->> 'home' <> {home}),
LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'span', span, 'table_oid', table_oid::bigint, 'filenode', filenode::bigint,
               'first_block', first_block, 'next_block', next_block, 'end_block', end_block)
               ORDER BY span), '[]') AS spans,
           coalesce(sum(batches), 0)::bigint AS batches, coalesce(sum(rows), 0)::bigint AS rows,
           coalesce(sum(hashes_before), 0)::text AS hashes_before,
           coalesce(sum(hashes_after), 0)::text AS hashes_after,
           coalesce(sum(worked_ms), 0) AS worked_ms
    FROM {spans} WHERE run_id = r.run_id
) AS s
WHERE r.table_schema = %(schema)s AND r.table_before = %(table)s AND r.ended_at IS NULL"""
