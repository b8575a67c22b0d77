"""Who still uses the view under the old name, as far as PostgreSQL can tell."""

import time
from typing import Any, LiteralString

import psycopg


def uses(
    connection: psycopg.Connection[Any], schema: str, view: str, *, watch_s: float
) -> tuple[str, ...]:
    """Return the signs that a view is in use, a sentence each.

    Looked at are the locks on it, every session's latest statement, the views that depend on it,
    and, where pg_stat_statements is installed, the statements that name it and are called again
    within `watch_s` seconds. What uses it less often than that and without a session is not seen.
    """
    parts = {"schema": schema, "view": view, "pattern": _pattern(view)}
    before = _calls(connection, parts)
    time.sleep(watch_s if before else 0)
    called = sum(n - before.get(query, 0) for query, n in _calls(connection, parts).items())
    found = [row[0] for row in connection.execute(_USES, parts).fetchall()]
    if called:
        found.append(f"statements that name it were called {called:,} times in {watch_s:g} s")
    return tuple(found)


def is_view(connection: psycopg.Connection[Any], schema: str, name: str) -> bool:
    """Return whether there is a view of that name."""
    row = connection.execute(_IS_VIEW, [schema, name]).fetchone()
    return bool(row and row[0])


def _pattern(view: str) -> str:
    """Return a regular expression for the name as a word of its own."""
    quoted = "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in view)
    return f"(^|[^[:alnum:]_]){quoted}([^[:alnum:]_]|$)"


def _calls(connection: psycopg.Connection[Any], parts: dict[str, str]) -> dict[int, int]:
    """Return how often each statement that names the view was called so far."""
    try:
        with connection.transaction():
            return dict(connection.execute(_STATEMENTS, parts).fetchall())
    except psycopg.Error:
        return {}  # not installed, or not to be read by this role


_STATEMENTS: LiteralString = """\
SELECT queryid, sum(calls)::bigint FROM pg_stat_statements
WHERE query ~ %(pattern)s AND query ~* '^\\s*(with|select|insert|update|delete|merge|copy)'
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1"""

_IS_VIEW = """\
SELECT count(*) FROM pg_views WHERE schemaname = %s AND viewname = %s"""

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
ORDER BY 1"""
