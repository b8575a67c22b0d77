"""Why PostgreSQL would refuse to index columns of a table, as far as the catalog and rows say."""

from collections.abc import Iterator, Sequence

from runbook.facts import Table
from runbook.operations.base import Scope, blocker
from runbook.vocabulary import Finding

BTREE_BYTES = 2704
"""The longest entry of a btree, of pages of 8 kB (BTMaxItemSize in PostgreSQL's source)."""

ENTRY_HEADER_BYTES = 8


def column_findings(
    scope: Scope, index: str, columns: Sequence[str], method: str
) -> Iterator[Finding]:
    """Yield columns of the table that have no value to index, or that a method cannot index."""
    for name in columns:
        column, object_ = scope.table.column(name), f"{scope.schema}.{index}"
        if column is None:
            continue
        if column.generated == "v":
            yield blocker(
                "index-impossible",
                object_,
                f"Index {index!r} names column {name!r}, which is a virtual generated column.",
                "Index the columns that it is generated from, or make it a stored one.",
            )
        elif method not in column.index_methods:
            others = ", ".join(column.index_methods) or "none"
            yield blocker(
                "no-operator-class",
                object_,
                f"Index {index!r} is by {method}, which cannot index column {name!r}: it is of "
                f"type {column.type}.",
                f"Name another `method` (that type has {others}), or another column.",
            )


def unique_findings(scope: Scope, index: str, columns: Sequence[str]) -> Iterator[Finding]:
    """Yield what keeps a unique index from being built."""
    missing = [name for name in scope.table.partition_keys if name not in columns]
    if missing:
        yield blocker(
            "index-impossible",
            f"{scope.schema}.{index}",
            f"Index {index!r} is unique, and lacks {', '.join(map(repr, missing))}, by which "
            f"{scope.table.name!r} is partitioned.",
            "Name all columns of the partition keys in it, or leave out `unique`.",
        )
    keys = scope.catalog.census.keys.get(index) if scope.catalog.census else None
    if keys and keys.rows > 1:
        key = ", ".join(
            f"{name} = {value!r}" for name, value in zip(columns, keys.example, strict=True)
        )
        yield blocker(
            "duplicate-keys",
            f"{scope.schema}.{index}",
            f"Index {index!r} is unique, and {keys.rows:,} rows of {scope.table.name!r} have "
            f"{key}.",
            "Make such rows differ, or leave out `unique`.",
        )


def length_findings(scope: Scope, index: str) -> Iterator[Finding]:
    """Yield that a row's entry would not fit into a page of a btree."""
    keys = scope.catalog.census.keys.get(index) if scope.catalog.census else None
    if keys and keys.most_bytes + ENTRY_HEADER_BYTES > BTREE_BYTES:
        yield blocker(
            "index-row-too-large",
            f"{scope.schema}.{index}",
            f"Index {index!r} would have an entry of {keys.most_bytes + ENTRY_HEADER_BYTES:,} "
            f"bytes or more, and a btree holds none above {BTREE_BYTES:,}.",
            "Shorten what is in the longest rows, or name `hash` or other columns.",
        )


def is_unique_already(table: Table, columns: Sequence[str]) -> bool:
    """Return whether a constraint of the table keeps rows from being equal in these columns."""
    return any(
        index.of_constraint and index.is_unique and index.valid and {*index.columns} <= {*columns}
        for index in table.indexes
    )
