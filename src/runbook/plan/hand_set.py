"""The rows that a rollback would lose: those whose label is not the one that the rules give.

Somebody has set it since the migration, by hand or by the application; the label stands in the
column alone, and goes with it. All others can be classified again at any time.
"""

from runbook import sql
from runbook.operations.classify import Classify

GROUPS = 50
"""How many groups of such rows are listed."""


def hand_set(schema: str, table: str, classify: Classify) -> str:
    """Return the query for them, grouped, the largest group first: the values of the columns that
    the rules look at, the label that the rows have, the one that the rules give, the number of
    rows; then the number of all groups and rows, on every line."""
    values = (sql.compose("{name}::text", name=name) for name in classify.rule_columns())
    return sql.render(
        _HAND_SET,
        values=sql.join(", ", values),
        column=classify.column,
        given=classify.label_expression(),
        typed=classify.label_expression(sql.name(schema, classify.type)),
        table=sql.name(schema, table),
        limit=sql.value(GROUPS),
    )


_HAND_SET = """\
SELECT ARRAY[{values}]::text[] AS values, {column}::text AS label,
    {given} AS given, count(*) AS rows,
    count(*) OVER () AS groups, (sum(count(*)) OVER ())::bigint AS all_rows
FROM {table}
WHERE {column} IS DISTINCT FROM
    {typed}
GROUP BY 1, 2, 3 ORDER BY rows DESC, 1, 2, 3 LIMIT {limit}"""
