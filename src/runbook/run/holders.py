"""Who holds the locks that a run waits for, and which run is at work."""

from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

from runbook.catalog.ledger import lock_key
from runbook.catalog.queries import LOCK_HOLDER
from runbook.secrets import without_literals


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """A session that held a lock which a try had to wait for."""

    pid: int | None
    """None for a prepared transaction."""
    user: str | None
    application: str | None
    state: str | None
    mode: str | None
    """The locks that it holds on the table, its partitions or their indexes; None where something
    else is waited for."""
    age_s: float | None
    """How long its transaction has lasted."""
    query: str | None
    """The beginning of its latest statement, without a literal."""

    def __str__(self) -> str:
        if self.pid is None:
            return "a prepared transaction (see pg_prepared_xacts)"
        state = f", {self.state}" if self.state else ""
        mode = f" holds {self.mode}" if self.mode else ""
        age = f", in a transaction for {self.age_s:,.0f} s" if self.age_s is not None else ""
        return f"pid {self.pid} ({self.user}, {self.application!r}{state}){mode}{age}: {self.query}"

    def is_older(self, ms: float) -> bool:
        """Return whether its transaction has lasted that long, or may have: a role without
        pg_read_all_stats sees neither age nor state of another's."""
        if self.pid is None or ms <= 0:
            return True
        return self.state != "idle" if self.age_s is None else self.age_s * 1000 >= ms


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """A run that is at work on a table."""

    who: str
    """The session that holds the table's advisory lock, in words."""
    blockers: tuple[Blocker, ...]
    """Whom the run's sessions wait for now, or will at their next try."""


def at_work(
    connection: psycopg.Connection[Any], schema: str, table: str, *, locking: int | None
) -> AtWork | None:
    """Return the run that is at work on a table, or None.

    The run's sessions are known by the role, the address and the application name that they share.
    `locking` is the OID of the table that it is about to lock, if it is: between two tries it waits
    for nobody, but whoever has held a lock on the table for a second is in its way.
    """
    holder = connection.execute(LOCK_HOLDER, [lock_key(schema, table)]).fetchone()
    if holder is None:
        return None
    who, pid = holder
    blocking = connection.execute(_BLOCKING, {"pid": pid, "oid": locking}).fetchall()
    found = _blockers(connection, [row[0] for row in blocking], locking)
    return AtWork(who=who, blockers=found[:_MOST])


def holders(
    connection: psycopg.Connection[Any], table_oid: int, *, for_ms: float = 0.0
) -> tuple[Blocker, ...]:
    """Return who holds locks on a table, its partitions or their indexes, the oldest transaction
    first and those of unknown age last.

    `for_ms` leaves out those whose transactions are younger: they came after who was waited for.
    """
    pids = connection.execute(_HOLDERS, {"oid": table_oid}).fetchall()
    found = _blockers(connection, [row[0] for row in pids], table_oid)
    return tuple(one for one in found if one.is_older(for_ms))[:_MOST]


def blockers_of(connection: psycopg.Connection[Any], pid: int) -> tuple[Blocker, ...]:
    """Return the sessions that a session waits for now, the oldest transaction first."""
    row = connection.execute("SELECT pg_blocking_pids(%s)", [pid]).fetchone()
    return _blockers(connection, row[0] if row else [], None)[:_MOST]


def said(blockers: tuple[Blocker, ...]) -> str:
    """Return who is in the way, in words."""
    return "; ".join(map(str, blockers)) or "whoever held it has just let go"


def _blockers(
    connection: psycopg.Connection[Any], pids: list[int | None], table_oid: int | None
) -> tuple[Blocker, ...]:
    with connection.cursor(row_factory=class_row(Blocker)) as cursor:
        cursor.execute(_SESSIONS, {"pids": pids, "oid": table_oid})
        return tuple(replace(one, query=_shown(one.query)) for one in cursor.fetchall())


def _shown(query: str | None) -> str | None:
    return None if query is None else without_literals(query)[:_SHOWN_CHARACTERS]


_SHOWN_CHARACTERS = 120
"""How much is shown of somebody else's statement."""

_MOST = 5
"""How many are named."""

# The partitions are not asked of pg_partition_tree, which locks them and so would wait itself.
_TREE: LiteralString = """\
WITH RECURSIVE tree (oid) AS (
    SELECT %(oid)s::oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
), lock AS (
    SELECT pid, mode FROM pg_locks
    WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation IN (SELECT oid FROM tree
          UNION ALL SELECT indexrelid FROM pg_index JOIN tree ON indrelid = tree.oid)
)"""

# A prepared transaction has no session: its pid is NULL among the locks and 0 among the blockers.
_HOLDERS: LiteralString = f"""\
{_TREE}
SELECT DISTINCT pid FROM lock WHERE pid IS DISTINCT FROM pg_backend_pid()"""  # noqa: S608 (all of it is constant)

_BLOCKING: LiteralString = f"""\
{_TREE}, own AS (
    SELECT a.pid FROM pg_stat_activity a JOIN pg_stat_activity g
    USING (datname, usename, application_name) WHERE g.pid = %(pid)s
    AND a.client_addr IS NOT DISTINCT FROM g.client_addr)
SELECT b.pid FROM own, unnest(pg_blocking_pids(own.pid)) AS b (pid)
WHERE b.pid NOT IN (SELECT pid FROM own)
UNION
SELECT coalesce(l.pid, 0) FROM lock l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.pid IS NULL OR l.pid NOT IN (SELECT pid FROM own)
  AND CASE WHEN a.xact_start IS NULL THEN a.state IS DISTINCT FROM 'idle'
      ELSE a.xact_start < clock_timestamp() - interval '1 second' END"""  # noqa: S608

_SESSIONS: LiteralString = f"""\
{_TREE}
SELECT nullif(p.pid, 0) AS pid, a.usename::text AS user, a.application_name AS application,
       a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age_s,
       a.query,
       (SELECT string_agg(DISTINCT mode, ', ') FROM lock WHERE pid = a.pid) AS mode
FROM unnest(%(pids)s::int[]) AS p (pid) LEFT JOIN pg_stat_activity a USING (pid)
WHERE a.pid IS NOT NULL OR coalesce(p.pid, 0) = 0
ORDER BY age_s DESC NULLS LAST"""  # noqa: S608
