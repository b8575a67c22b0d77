"""How many rows of a table anybody wrote, as far as the server has counted (docs, 28.2.26)."""

from typing import Any, LiteralString

import psycopg

from runbook.facts import Written

SETTLING_S = 12.0
"""How long a session may keep its counts to itself: 10 s when idle (PGSTAT_IDLE_INTERVAL in
PostgreSQL's source), and a little more."""


def written(connection: psycopg.Connection[Any], table_oid: int) -> Written:
    """Return what the server has counted. Not in a transaction, which would ask once only."""
    row = connection.execute(_WRITTEN, [table_oid]).fetchone()
    assert row is not None
    return Written(*row)


_WRITTEN: LiteralString = """\
WITH RECURSIVE tree (oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
)
SELECT CASE WHEN current_setting('track_counts')::bool
           THEN sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid)
                    + pg_stat_get_tuples_deleted(oid))::bigint END,
       array_agg(oid::bigint ORDER BY oid)
FROM tree"""
