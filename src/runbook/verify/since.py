"""Rows that were written since a run's cutover: the application's, not the run's.

Every row says which transaction wrote it (`xmin`; docs, 5.6), and the ledger says which ones had
ended at the cutover. What is neither among them nor the run's own came later, and so did whatever
stands in a partition that was not there. A transaction's number comes again after 2^32 of them, so
this is asked as long as fewer than 2^31 have come since.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.facts import Cutover, Table
from runbook.operations.classify import Classify
from runbook.operations.value import as_text, enum_text, is_other_label
from runbook.verify.ask import Failure, ask

EXAMPLES = 5
"""How many rows are named."""

_NUMBERS = 2**32
"""How many numbers of transactions a row can tell from each other."""


@dataclass(frozen=True, kw_only=True)
class Since:
    """Rows whose label is not the one that the rules give, and that were written since."""

    rows: Mapping[tuple[str | None, str], int] = field(default_factory=dict)
    """How many there are, by the label that they have and the one that the rules give."""
    examples: tuple[str, ...] = ()
    """The first of them by their key, `id = 5`."""
    sql: str = ""
    """The query that counted them."""
    untold: str = ""
    """Why they cannot be told from the run's rows, in a sentence; '' where they can."""

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.rows.values())


def written_since(
    connection: psycopg.Connection[Any], classify: Classify, table: Table, cutover: Cutover | None
) -> Since:
    """Return the rows that are labelled otherwise and were written since the cutover, as of the
    open transaction's snapshot."""
    if cutover is None:
        return Since(
            untold="What was written since cannot be told from what the run wrote: the database "
            "was restored from a dump since, or the run was recorded by a version of the runbook "
            "that did not note the moment of its cutover."
        )
    newest = _newest(connection)
    first = _parts(cutover.snapshot)[0]
    if not 0 <= newest - first < _NUMBERS // 2:
        return Since(
            untold=f"The server has come to transaction {newest:,} and the run's cutover was at "
            f"{first:,}: by these numbers, what was written since cannot be told from what the run "
            "wrote. The database was restored from a dump, or more than 2^31 transactions ended."
        )
    wrong = sql.compose(
        "{other}\n  AND ({since})",
        other=is_other_label(
            classify.column,
            classify.label_expression(table, sql.name(table.schema, classify.type)),
        ),
        since=_is_since(cutover, newest),
    )
    query = sql.render(
        _COUNT,
        label=enum_text("label"),
        column=classify.column,
        given=classify.label_expression(table),
        table=sql.name(table.schema, table.name),
        wrong=wrong,
    )
    found = ask(connection, query)
    if isinstance(found, Failure):
        return Since(untold=f"What was written since could not be counted: {found}.")
    rows = {(label, given): count for label, given, count in found}
    return Since(rows=rows, sql=query, examples=_examples(connection, table, wrong) if rows else ())


def _newest(connection: psycopg.Connection[Any]) -> int:
    """Return the number that no transaction that can be seen has reached."""
    row = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
    assert row is not None
    return int(row[0])


def _parts(snapshot: str) -> tuple[int, tuple[int, ...]]:
    """Return the first transaction that a snapshot did not see, and those under way before it."""
    _, first, under_way = snapshot.split(":")
    return int(first), tuple(int(one) for one in under_way.split(",") if one)


def _is_since(cutover: Cutover, newest: int) -> sql.Composable:
    """Return the predicate that a row was written since."""
    first, under_way = _parts(cutover.snapshot)
    return sql.compose(
        "(({newest} - xmin::text::bigint) & {all} <= {passed}\n"
        "    OR xmin::text::bigint = ANY (ARRAY[{under_way}]::bigint[]))\n"
        "   AND xmin::text::bigint <> {own}\n"
        "   OR tableoid::bigint <> ALL (ARRAY[{tables}]::bigint[])",
        newest=sql.value(newest),
        all=sql.value(_NUMBERS - 1),
        passed=sql.value(newest - first),
        under_way=sql.values(one % _NUMBERS for one in under_way),
        own=sql.value(cutover.own % _NUMBERS),
        tables=sql.values(cutover.tables),
    )


def _examples(
    connection: psycopg.Connection[Any], table: Table, wrong: sql.Composable
) -> tuple[str, ...]:
    """Return the first rows by their key, or where they lie if the table has none."""
    key = _key(table)
    query = sql.render(
        "SELECT {texts} FROM {table}\nWHERE {wrong}\nORDER BY {order} LIMIT {limit}",
        texts=sql.join(", ", (as_text(table.column(name), sql.name(name)) for name in key))
        if key
        else sql.compose("tableoid::regclass::text, ctid::text"),
        table=sql.name(table.schema, table.name),
        wrong=wrong,
        order=sql.join(", ", (sql.name(table.schema, table.name, name) for name in key))
        if key
        else sql.compose("tableoid, ctid"),
        limit=sql.value(EXAMPLES),
    )
    found = ask(connection, query)
    if isinstance(found, Failure):
        return ()
    names = key or ("table", "ctid")
    return tuple(
        ", ".join(f"{name} = {item}" for name, item in zip(names, row, strict=True))
        for row in found
    )


def _key(table: Table) -> tuple[str, ...]:
    """Return the columns of the primary key."""
    keys = {one.name for one in table.constraints if one.kind == "p"}
    return next((one.columns for one in table.indexes if one.name in keys), ())


_COUNT: LiteralString = """\
SELECT {label}, given, count(*)
FROM (
    SELECT {column} AS label,
    {given} AS given
    FROM {table}
    WHERE {wrong}
) AS since GROUP BY label, given ORDER BY label, given"""
