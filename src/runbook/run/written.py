"""How many rows of a table anybody wrote, as far as the server has counted (docs, 28.2.26)."""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

SETTLING_S = 12.0
"""How long a session may keep its counts to itself: 10 s when idle (PGSTAT_IDLE_INTERVAL in
PostgreSQL's source), and a little more."""


@dataclass(frozen=True)
class Written:
    """What the server has counted of the writes to a table, or to its partitions."""

    rows: int | None
    """How many rows were ever written; None where it does not count."""
    tables: list[int]
    """The tables that they were counted of."""

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"rows": self.rows, "tables": self.tables}


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
