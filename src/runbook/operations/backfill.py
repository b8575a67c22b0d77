"""The backfill's SQL: a batch over a range of blocks that proves itself, and the sweep after all.

A range of blocks needs no key and reads the heap in order. A batch never waits for a row: what
somebody else has locked is left out, and so no deadlock with the application is possible. If it is
updated, the trigger classifies it; what is left after all is found by the sweep.
"""

from runbook import sql
from runbook.facts import Table
from runbook.operations.fingerprint import row_hash
from runbook.operations.value import enum_text, is_other_label


def batch(
    table: Table, relation: sql.Composable, *, filter_: sql.Composable, assignments: sql.Composable
) -> str:
    """Return the statement that updates the rows of a range that the filter takes.

    `$1` and `$2` are its first block's ctid and that of the first block behind it. It returns how
    many rows it updated, the sums of their hashes before and after, and how many differ: the hash
    before is taken with the row locked, the hash after is that of the row as it was written, by
    whatever trigger.
    """
    columns = {column.name for column in table.columns}
    return sql.render(
        _BATCH,
        table=relation,
        place=sql.free_name("place", columns),
        hash=sql.free_name("hash", columns),
        before=row_hash(table),
        after=row_hash(table, "changed"),
        filter=filter_,
        assignments=assignments,
    )


def sweep(relation: sql.Composable, column: str, label: sql.Composable) -> str:
    """Return the query that counts the rows of each label and table, those among them whose label
    is not the rules', and the first and the last block that holds one."""
    return sql.render(
        _SWEEP,
        table=relation,
        column=column,
        text=enum_text("label"),
        wrong=is_other_label(column, label),
    )


_BATCH = """\
WITH runbook_before AS MATERIALIZED (
    SELECT ctid AS {place},
        {before} AS {hash}
    FROM {table}
    WHERE ctid OPERATOR(pg_catalog.>=) $1::pg_catalog.tid
        AND ctid OPERATOR(pg_catalog.<) $2::pg_catalog.tid AND {filter}
    FOR NO KEY UPDATE SKIP LOCKED
), runbook_after AS (
    UPDATE {table} AS changed
    SET {assignments}
    FROM runbook_before
    WHERE changed.ctid OPERATOR(pg_catalog.=) runbook_before.{place}
        AND changed.ctid OPERATOR(pg_catalog.>=) $1::pg_catalog.tid
        AND changed.ctid OPERATOR(pg_catalog.<) $2::pg_catalog.tid
    RETURNING runbook_before.{hash} AS before,
        {after} AS after
)
SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(before), 0),
    coalesce(pg_catalog.sum(after), 0),
    pg_catalog.count(*) FILTER (WHERE before OPERATOR(pg_catalog.<>) after)
FROM runbook_after"""

_SWEEP = """\
SELECT {text} AS label, relation, count(*) AS rows, count(*) FILTER (WHERE wrong) AS wrong,
    min(block) FILTER (WHERE wrong) AS first, max(block) FILTER (WHERE wrong) AS last
FROM (
    SELECT {column} AS label, {wrong} AS wrong, (ctid::text::point)[0]::bigint AS block,
        tableoid::bigint AS relation
    FROM {table}
) AS swept GROUP BY swept.label, relation"""
