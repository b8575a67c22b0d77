"""The rows that a rollback would lose: those whose label is not the one that the rules give.

Somebody has set it since the migration, by hand or by the application; the label stands in the
column alone, and goes with it. All others can be classified again at any time.
"""

from runbook import sql
from runbook.facts import Table
from runbook.operations.classify import Classify
from runbook.operations.value import as_text, enum_text, is_other_label

GROUPS = 50
"""How many groups of such rows are listed."""


def hand_set(table: Table, name: str, classify: Classify) -> str:
    """Return the query for them in the migrated table, by its name: grouped, the largest group
    first; the columns that the rules look at, the label that the rows have, the one that the rules
    give, the number of rows; then the number of all groups and rows, on every line."""
    columns = classify.rule_columns()
    schema = table.schema
    keys = len(columns) + 2
    return sql.render(
        _HAND_SET,
        values=sql.join(
            ", ",
            (
                sql.compose(
                    "{text} AS {name}", text=as_text(table.column(name), sql.name(name)), name=name
                )
                for name in columns
            ),
        ),
        column=classify.column,
        given=classify.label_expression(table),
        label=enum_text(classify.column),
        wrong=is_other_label(
            classify.column,
            classify.label_expression(table, sql.name(schema, classify.type)),
        ),
        table=sql.name(schema, name),
        keys=sql.values(range(1, keys + 1)),
        rows=sql.value(keys + 1),
        limit=sql.value(GROUPS),
    )


_HAND_SET = """\
SELECT {values}, {label} AS {column},
    {given} AS "by the rules", count(*) AS "rows",
    count(*) OVER () AS "groups", (sum(count(*)) OVER ())::bigint AS "all rows"
FROM {table}
WHERE {wrong}
GROUP BY {keys} ORDER BY {rows} DESC, {keys} LIMIT {limit}"""
