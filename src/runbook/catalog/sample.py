"""Measuring a sample: the proof's work on a few ranges of blocks, without writing anything.

A condition on `ctid` reads the named blocks alone (TID range scan, PostgreSQL 14 and newer). The
server's own clock is taken (EXPLAIN ANALYZE), so the way to it does not count.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog.rows import rows
from runbook.facts import Sample, Table
from runbook.operations.fingerprint import ONCE, row_image, sum_of_hashes
from runbook.trust.settings import for_reading

RANGES = 5
"""How many ranges of blocks are read."""

RANGE_BLOCKS = 64
"""Blocks of a range at most: 0.5 MB, some 2,000 rows; less than 20 ms, once in memory."""

LEAST_ROWS = 100
"""A range of fewer rows says more about the clock than about the rows."""


def read_sample(connection: psycopg.Connection[Any], table: Table) -> Sample | None:
    """Return how fast rows are read and hashed, or None where there are too few of them. Called in
    the catalog's snapshot."""
    with connection.transaction():
        connection.execute(for_reading().encode())
        measured = list(_measured(connection, table))
    if not measured:
        return None
    each = [ms * 1000 / count for count, ms in measured]
    return Sample(
        rows=sum(count for count, _ in measured),
        least_us=min(each),
        median_us=median(each),
        most_us=max(each),
    )


def _measured(connection: psycopg.Connection[Any], table: Table) -> Iterator[tuple[int, float]]:
    """Yield rows and milliseconds of each range, all of them in the largest table with rows."""
    sizes = rows(connection, _SIZES, {"names": [sql.spelled(*one) for one in table.leaves]})
    if not sizes:
        return
    largest = max(range(len(sizes)), key=lambda n: (sizes[n]["blocks"], -n))
    blocks = sizes[largest]["blocks"]
    length = max(1, min(RANGE_BLOCKS, blocks // RANGES))
    starts = {max(0, blocks - length) * n // (RANGES - 1) for n in range(RANGES)}
    for start in sorted(starts):
        query = sql.render(
            _EXPLAIN,
            hashes=sum_of_hashes("image"),
            image=row_image(table),
            table=sql.name(*table.leaves[largest]),
            first=sql.value(f"({start},0)"),
            end=sql.value(f"({start + length},0)"),
            once=sql.compose(ONCE),
        )
        answer = connection.execute(query.encode()).fetchone()
        assert answer is not None
        (plan,) = answer[0]
        count = _rows_read(plan["Plan"])
        if count >= LEAST_ROWS:
            yield count, plan["Execution Time"]


def _rows_read(node: dict[str, Any]) -> int:
    """Return how many rows the scan at the bottom of a plan gave."""
    while "Plans" in node:
        node = node["Plans"][0]
    return int(node["Actual Rows"])


_SIZES = """
SELECT pg_relation_size(name::regclass) / current_setting('block_size')::bigint AS blocks
FROM unnest(%(names)s::text[]) WITH ORDINALITY AS t (name, place) ORDER BY place"""

_EXPLAIN = """\
EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)
SELECT /* runbook */ {hashes} FROM (
    SELECT {image} AS image FROM {table} WHERE ctid >= {first} AND ctid < {end} {once}
) AS tallied"""
