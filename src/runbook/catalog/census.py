"""The census: exact counts per label, per rule and per group of equal rule columns, in one scan."""

from collections.abc import Iterator
from typing import Any

import psycopg

from runbook import sql
from runbook.facts import Census, Group, RuleCount, Table
from runbook.operations.classify import Classify
from runbook.operations.value import as_text
from runbook.spec import Spec

GROUPS_PER_LABEL = 25
"""How many groups of each label are read; a free-text rule column may have millions."""


def read_census(connection: psycopg.Connection[Any], spec: Spec, table: Table) -> Census:
    """Count the table's rows as the rules see them. Memory here does not grow with the rows."""
    relation = sql.name(table.schema, table.name)
    if spec.classify is None:
        total = _value(connection, sql.render("SELECT count(*) FROM {table}", table=relation))
        return Census(total=total, predicted={}, columns=(), groups=(), group_counts={}, rules=())
    return _census(spec.classify, _value(connection, census_sql(spec.classify, table)))


def census_sql(classify: Classify, table: Table) -> str:
    """Return the query: one scan into groups, everything else counted from these.

    Where equal values are the same value, rows are grouped before the rules look at them, so that
    a rule is evaluated once a group and not once a row (0.35 s → 0.15 s for 1,000,000 rows).
    """
    columns = classify.rule_columns()
    rows = sql.free_name("n", columns)
    aliases = [f"c{n}" for n in range(1, len(columns) + 1)]
    grouped = (
        sql.compose("{column} AS {alias}", column=_groupable(table, name), alias=alias)
        for name, alias in zip(columns, aliases, strict=True)
    )
    matches = [
        *(sql.compose("({p}) IS TRUE", p=rule.when.predicate(table)) for rule in classify.rules),
        sql.compose("true"),
    ]
    return sql.render(
        _CENSUS,
        source=_source(table, columns, rows),
        n=rows,
        label=classify.label_expression(table),
        aliases=sql.names(aliases),
        grouped=sql.join(", ", grouped),
        texts=sql.join(
            ", ",
            (_text(table, name, alias) for name, alias in zip(columns, aliases, strict=True)),
        ),
        places=sql.values(range(1, len(columns) + 3)),
        matches=sql.join(", ", matches),
        limit=sql.value(GROUPS_PER_LABEL),
    )


def _source(table: Table, columns: tuple[str, ...], rows: str) -> sql.Composable:
    """Return the rule columns of all rows, each with the number of rows that it stands for."""
    return sql.compose(
        "SELECT {columns}, count(*) AS {rows} FROM {table} GROUP BY {columns}"
        if table.is_exact(columns)
        else "SELECT {columns}, 1 AS {rows} FROM {table}",
        columns=sql.names(columns),
        rows=rows,
        table=sql.name(table.schema, table.name),
    )


def _groupable(table: Table, name: str) -> sql.Composable:
    """Return a column as it can be grouped; a type without equality goes as text."""
    if table.is_exact([name]):
        return sql.name(name)
    text = as_text(table.column(name), sql.name(name))
    return sql.compose('{text} COLLATE "C"', text=text)


def _text(table: Table, name: str, alias: str) -> sql.Composable:
    """Return what a column was grouped by, as text."""
    return as_text(table.column(name) if table.is_exact([name]) else None, sql.name(alias))


def _census(classify: Classify, answer: dict[str, Any]) -> Census:
    """Shape the server's JSON into facts."""
    counted = answer["labels"] or {}
    labels = [*(rule.label for rule in classify.rules), classify.otherwise]
    columns = classify.rule_columns()
    nulls: dict[str, dict[str, int]] = {}
    for place, label, rows in answer["nulls"] or []:
        nulls.setdefault(columns[place - 1], {})[label] = rows
    return Census(
        total=answer["total"] or 0,
        predicted={label: counted.get(label, {}).get("rows", 0) for label in classify.labels},
        columns=columns,
        groups=tuple(
            Group(label=group["label"], values=tuple(group["values"]), rows=group["rows"])
            for group in answer["groups"] or []
        ),
        group_counts={label: entry["groups"] for label, entry in counted.items()},
        rules=tuple(_rules(labels, answer["rules"] or [])),
        nulls=nulls,
    )


def _rules(labels: list[str], hits: list[tuple[int, int, int]]) -> Iterator[RuleCount]:
    """Yield each rule's counts; a hit is a rule that matches, the one that takes, and the rows."""
    for n, label in enumerate(labels, start=1):
        own = [(by, rows) for place, by, rows in hits if place == n]
        taken: dict[str, int] = {}
        for by, rows in own:
            if by < n:
                taken[labels[by - 1]] = taken.get(labels[by - 1], 0) + rows
        yield RuleCount(
            label=label,
            takes=sum(rows for by, rows in own if by == n),
            alone=sum(rows for _, rows in own),
            taken_by=taken,
        )


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    """Return the one value of a query that stands as text and has no parameters."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


_CENSUS = """\
WITH /* runbook */ groups AS MATERIALIZED (
    SELECT label, ARRAY[{texts}] AS values, matches, array_position(matches, true) AS rule,
           n AS rows, row_number() OVER (PARTITION BY label ORDER BY n DESC, {aliases}) AS place
    FROM (
        SELECT {label} AS label, {grouped}, ARRAY[{matches}] AS matches,
               sum({n}) AS n
        FROM ({source}) AS source GROUP BY {places}
    ) AS counted
)
SELECT jsonb_build_object(
    'total', (SELECT sum(rows) FROM groups),
    'labels', (SELECT jsonb_object_agg(label, jsonb_build_object('rows', rows, 'groups', groups))
               FROM (SELECT label, sum(rows) AS rows, count(*) AS groups
                     FROM groups GROUP BY label) AS l),
    'rules', (SELECT jsonb_agg(jsonb_build_array(place, rule, rows) ORDER BY place, rule)
              FROM (SELECT m.place, rule, sum(rows) AS rows
                    FROM groups, unnest(matches) WITH ORDINALITY AS m (hit, place)
                    WHERE m.hit GROUP BY m.place, rule) AS r),
    'nulls', (SELECT jsonb_agg(jsonb_build_array(place, label, rows) ORDER BY place, rows DESC)
              FROM (SELECT v.place, label, sum(rows) AS rows
                    FROM groups, unnest(values) WITH ORDINALITY AS v (value, place)
                    WHERE v.value IS NULL GROUP BY v.place, label) AS n),
    'groups', (SELECT jsonb_agg(jsonb_build_object('label', label, 'values', values, 'rows', rows)
                                ORDER BY rows DESC, label, values)
               FROM groups WHERE place <= {limit}))"""
