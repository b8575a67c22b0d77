"""Who still uses the view under the old name, as far as PostgreSQL can tell."""

import re
import time
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.catalog.related_queries import STATEMENTS_VIEW


def uses(
    connection: psycopg.Connection[Any], schema: str, view: str, *, watch_s: float
) -> tuple[str, ...]:
    """Return the signs that a view is in use, a sentence each.

    Looked at are the locks on it, every session's latest statement, the views and functions that
    depend on it, the functions whose source names it, and, where pg_stat_statements is installed,
    the statements that name it and are called again within `watch_s` seconds. Not seen is what uses
    it less often than that and without a session, and a name behind the first
    track_activity_query_size bytes of a statement.
    """
    parts = {"schema": schema, "view": view, "pattern": _pattern(view)}
    before = _calls(connection, parts)
    time.sleep(watch_s if before else 0)
    called = sum(n - before.get(query, 0) for query, n in _calls(connection, parts).items())
    found = [row[0] for row in connection.execute(_USES, parts).fetchall()]
    if called:
        found.append(f"statements that name it were called {called:,} times in {watch_s:g} s")
    return tuple(found)


def _pattern(view: str) -> str:
    """Return a regular expression for the name as a word of its own.

    In upper case, too, where it may be written without quotes; one that holds an upper-case letter
    must stand in quotes, which has a quote in it written twice.
    """
    written = view.replace('"', '""')
    quoted = "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in written)
    ignoring_case = "" if re.search("[A-Z]", view) else "(?i)"
    return f"{ignoring_case}(^|[^[:alnum:]_]){quoted}([^[:alnum:]_]|$)"


def _calls(connection: psycopg.Connection[Any], parts: dict[str, str]) -> dict[int, int]:
    """Return how often each statement that names the view was called so far."""
    found = connection.execute(STATEMENTS_VIEW).fetchone()
    if found is None:
        return {}
    # Beside bound values a percent sign stands twice, in a name, too.
    view = sql.spelled(found[0], "pg_stat_statements").replace("%", "%%")
    query = sql.render(_STATEMENTS, view=sql.raw(view))
    try:
        with connection.transaction():
            return dict(connection.execute(query.encode(), parts).fetchall())
    except psycopg.Error:
        return {}  # not loaded, or not to be read by this role


_STATEMENTS: LiteralString = """\
SELECT queryid, sum(calls)::bigint FROM {view}
WHERE query ~ %(pattern)s AND query ~* '^\\s*(with|select|insert|update|delete|merge|copy)'
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1"""

_USES: LiteralString = """\
SELECT format('pid %%s (%%s, %%L) holds a lock on it', a.pid, a.usename, a.application_name)
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_activity a USING (pid)
WHERE n.nspname = %(schema)s AND c.relname = %(view)s AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION
SELECT format('pid %%s (%%s, %%L) named it in its latest statement, %%s ago', pid, usename,
              application_name, date_trunc('second', clock_timestamp() - query_start))
FROM pg_stat_activity
WHERE datname = current_database() AND query ~ %(pattern)s AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' AND application_name NOT LIKE 'runbook %%'
UNION
SELECT format('%%s depends on it', r.ev_class::regclass)
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(view)s AND r.ev_class <> c.oid
UNION
SELECT format('function %%s names it', p.oid::regprocedure)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND l.lanname NOT IN ('c', 'internal')
  AND (p.prosrc ~ %(pattern)s OR EXISTS (
      -- A body in standard SQL is kept parsed.
      SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid
      JOIN pg_namespace v ON v.oid = c.relnamespace
      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_class'::regclass
        AND v.nspname = %(schema)s AND c.relname = %(view)s))
  -- What serves the view goes with it.
  AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgname ~ '^~runbook_')
ORDER BY 1"""
