"""What the rows say about the indexes of a spec: duplicates of a unique key, and long entries."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

import psycopg

from runbook import sql
from runbook.facts import Column, Keys, Table
from runbook.operations.create_index import CreateIndex
from runbook.operations.indexable import is_unique_already
from runbook.operations.value import as_text
from runbook.spec import Spec


def read_keys(
    connection: psycopg.Connection[tuple[object, ...]], spec: Spec, table: Table
) -> Mapping[str, Keys]:
    """Return them by the index's name, of every index that the rows could be refused by.

    A unique key costs one grouping of the table, like the building of its index; long entries one
    scan that reads no value which is stored apart.
    """
    return dict(_read(connection, spec, table))


def _read(
    connection: psycopg.Connection[tuple[object, ...]], spec: Spec, table: Table
) -> Iterator[tuple[str, Keys]]:
    for one in spec.operations:
        if not isinstance(one, CreateIndex):
            continue
        found = Keys()
        columns = [table.column(name) for name in one.columns]
        known = [column for column in columns if column is not None]
        if one.method == "btree" and any(column.is_variable for column in known):
            (bytes_,) = _row(connection, _longest(table, known)) or (0,)
            found = Keys(most_bytes=int(str(bytes_ or 0)))
        query = _duplicates(spec, table, one)
        row = _row(connection, query) if query else None
        if row is not None:
            rows, *example = row
            found = Keys(
                rows=int(str(rows)),
                example=tuple(str(value) for value in example),
                most_bytes=found.most_bytes,
            )
        yield one.name, found


def _row(
    connection: psycopg.Connection[tuple[object, ...]], query: str
) -> tuple[object, ...] | None:
    return connection.execute(query.encode()).fetchone()


def _longest(table: Table, columns: list[Column]) -> str:
    """Return the query for the longest entry, as its columns are stored."""
    sizes = (
        sql.compose("coalesce(pg_column_size({column}), 0)", column=column.name)
        for column in columns
    )
    return sql.render(
        "SELECT max({sizes}) FROM {table}",
        sizes=sql.join(" + ", sizes),
        table=sql.name(table.schema, table.name),
    )


def _duplicates(spec: Spec, table: Table, index: CreateIndex) -> str:
    """Return the query for a key that several rows have, or '' where none can, or where only
    somebody's own code could tell."""
    if not index.unique or is_unique_already(table, index.columns):
        return ""
    keys, texts = [], []
    for place, name in enumerate(index.columns, 1):
        column, alias = table.column(name), sql.name(f"k{place}")
        if column is not None and _is_comparable(column):
            keys.append(sql.compose("{key} AS {alias}", key=name, alias=alias))
            texts.append(as_text(column, alias))
        elif column is None and spec.classify and name == spec.classify.column:
            label = spec.classify.label_expression(table)
            keys.append(sql.compose("{label} AS {alias}", label=label, alias=alias))
            texts.append(alias)
        else:
            return ""
    aliases = [sql.name(f"k{place}") for place in range(1, len(keys) + 1)]
    return sql.render(
        _DUPLICATES,
        texts=sql.join(", ", texts),
        keys=sql.join(", ", keys),
        aliases=sql.join(", ", aliases),
        table=sql.name(table.schema, table.name),
        filled=sql.join(
            " AND ", (sql.compose("{alias} IS NOT NULL", alias=alias) for alias in aliases)
        ),
    )


def _is_comparable(column: Column) -> bool:
    """Return whether its values are compared by nobody's code but PostgreSQL's or, of a base type,
    which only a superuser can make, an extension's."""
    return "btree" in column.index_methods and (
        column.foreign is None or column.foreign.kind in {"b", "e"}
    )


_DUPLICATES: LiteralString = """\
SELECT count(*), {texts}
FROM (SELECT {keys} FROM {table}) AS keyed
WHERE {filled} GROUP BY {aliases} HAVING count(*) > 1 LIMIT 1"""
