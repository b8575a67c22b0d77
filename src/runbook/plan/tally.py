"""The tallies: the queries that count and fingerprint every row, before and after the change.

One scan each gives the rows per label and the proof. The fingerprint is order-independent: the
hashes of all rows over all columns that existed before, summed exactly, so that the server may scan
in parallel. Measured: 0.75 s for 1,000,000 rows of 26 columns on 2 cores.
"""

from runbook import sql
from runbook.facts import Table
from runbook.operations.classify import Classify
from runbook.operations.fingerprint import ROW_HASH, row_hash

ALGORITHM = f"sum over the rows of {ROW_HASH}"


def tally_before(table: Table, classify: Classify | None) -> str:
    """Return the query over the table as it is: rows and hashes per label that the rules give."""
    label = classify.label_expression() if classify else sql.compose("NULL")
    return _tally(table, sql.name(table.schema, table.name), label, sql.compose("0"))


def tally_after(table: Table, name: str, classify: Classify | None) -> str:
    """Return the query over the changed table: rows and hashes per label that the rows have, and
    how many of them the rules would now label differently."""
    relation = sql.name(table.schema, name)
    if classify is None:
        return _tally(table, relation, sql.compose("NULL"), sql.compose("0"))
    wrong = sql.compose(
        "count(*) FILTER (WHERE {column} IS DISTINCT FROM\n    {expected})",
        column=classify.column,
        expected=classify.label_expression(sql.name(table.schema, classify.type)),
    )
    label = sql.compose("{column}::text", column=classify.column)
    # By the column, and not by its text: that would be made once a row and not once a label.
    return _tally(table, relation, label, wrong, grouping=sql.name(classify.column))


def _tally(
    table: Table,
    relation: sql.Composable,
    label: sql.Composable,
    wrong: sql.Composable,
    grouping: sql.Composable | None = None,
) -> str:
    return sql.render(
        "SELECT {label} AS label, count(*) AS rows, {wrong} AS wrong,\n"
        "    coalesce(sum({hash}), 0) AS hashes\n"
        "FROM {table} GROUP BY {grouping}",
        label=label,
        wrong=wrong,
        hash=row_hash(table),
        table=relation,
        grouping=grouping or sql.raw("1"),
    )
