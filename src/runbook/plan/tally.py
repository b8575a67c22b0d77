"""The tallies: the queries that count and fingerprint every row, before and after the change.

One scan each gives the rows per label and the proof. The fingerprint is order-independent: a 64-bit
hash of every row over all columns that existed before, summed exactly, so that the server may scan
in parallel. Measured: 0.75 s for 1,000,000 rows of 26 columns on 2 cores.

`hash_record_extended` combines the hashes of the columns linearly (31 × so far + next), so a plain
sum over the rows falls apart into one sum for each column, and two rows that swap a value go
unnoticed. Its result is therefore hashed once more before it is summed.

Columns of types whose equality is weaker than identity (numeric 1.0 = 1.00), or that have no hash
function, are hashed as text.
"""

from runbook import sql
from runbook.facts import Column, Table
from runbook.operations.classify import Classify

ALGORITHM = (
    "sum over the rows of hash_numeric_extended(hash_record_extended(all columns that existed "
    "before)), 64 bits a row"
)


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
        "    coalesce(sum(hash_numeric_extended(\n"
        "        hash_record_extended(ROW({columns}), 0)::numeric, 0)), 0) AS hashes\n"
        "FROM {table} GROUP BY {grouping}",
        label=label,
        wrong=wrong,
        columns=sql.join(", ", (_exact(column) for column in table.columns)),
        table=relation,
        grouping=grouping or sql.raw("1"),
    )


def _exact(column: Column) -> sql.Composable:
    """Return a column in a form whose hash tells any two stored values apart."""
    if column.exact_hash and column.type.endswith("[]"):
        # An array's own hash leaves out its bounds.
        return sql.compose(
            "{column}, CASE WHEN array_ndims({column}) <> 1 OR array_lower({column}, 1) <> 1 "
            "THEN array_dims({column}) END",
            column=column.name,
        )
    if column.exact_hash:
        return sql.name(column.name)
    if column.type.startswith(("character(", "bpchar")):
        # Its cast to text strips trailing blanks.
        return sql.compose('textin(bpcharout({column})) COLLATE "C"', column=column.name)
    return sql.compose('{column}::text COLLATE "C"', column=column.name)
