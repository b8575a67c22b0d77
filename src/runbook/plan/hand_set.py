"""The rows that a rollback would lose: those whose label is not the one that the rules give.

Somebody has set it since the migration, by hand or by the application; the label stands in the
column alone, and goes with it. All others can be classified again at any time.
"""

from runbook import sql
from runbook.operations.classify import Classify

GROUPS = 50
"""How many groups of such rows are listed."""


def hand_set(schema: str, table: str, classify: Classify) -> str:
    """Return the query for them, grouped, the largest group first: the columns that the rules look
    at, the label that the rows have, the one that the rules give, the number of rows; then the
    number of all groups and rows, on every line."""
    columns = classify.rule_columns()
    keys = len(columns) + 2
    return sql.render(
        _HAND_SET,
        values=sql.join(", ", (sql.compose("{name}::text", name=name) for name in columns)),
        column=classify.column,
        given=classify.label_expression(),
        typed=classify.label_expression(sql.name(schema, classify.type)),
        table=sql.name(schema, table),
        keys=sql.values(range(1, keys + 1)),
        rows=sql.value(keys + 1),
        limit=sql.value(GROUPS),
    )


_HAND_SET = """\
SELECT {values}, {column}::text AS {column},
    {given} AS "by the rules", count(*) AS "rows",
    count(*) OVER () AS "groups", (sum(count(*)) OVER ())::bigint AS "all rows"
FROM {table}
WHERE {column} IS DISTINCT FROM
    {typed}
GROUP BY {keys} ORDER BY {rows} DESC, {keys} LIMIT {limit}"""
