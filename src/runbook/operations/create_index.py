"""create_index: an index over columns of the table, built last, when the rows are as they stay."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Annotated, Literal, LiteralString, Self

from psycopg.types.json import Jsonb
from pydantic import Field, model_validator

from runbook import sql
from runbook.facts import Partition
from runbook.operations.base import (
    Additions,
    Expected,
    Name,
    Operation,
    Scope,
    blocker,
    note,
    object_name,
    with_article,
)
from runbook.operations.indexable import column_findings, length_findings, unique_findings
from runbook.vocabulary import Check, Finding, Lock, Made, Phase, Role, Statement

BUILD_US = 1.7
"""Microseconds to index one row (1.7 s for 1,000,000 rows)."""

CONCURRENT_US = 2 * BUILD_US
"""The same beside the application: the table is scanned twice (docs, CREATE INDEX)."""

ENTRY_BYTES = 60
"""Bytes of one row's entry in an index, with room: 40 for an enum and a timestamp (40 MB for
1,000,000 rows before duplicates are folded)."""

MOST_KEYS = 32
"""INDEX_MAX_KEYS in PostgreSQL's source."""

_PLAINLY = sql.compose("")

Method = Literal["btree", "hash", "gin", "gist", "spgist", "brin"]


class CreateIndex(Operation):
    """Create an index. Inside the transaction it takes SHARE, which the run already exceeds."""

    op: Literal["create_index"]
    name: Name = Field(description="the index's name")
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    method: Method = "btree"
    unique: bool = False

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.unique and self.method != "btree":
            raise ValueError(f"an index by {self.method} cannot be unique")
        if len(self.columns) > MOST_KEYS:
            raise ValueError(f"an index takes at most {MOST_KEYS} columns")
        if len(self.columns) > 1 and self.method in {"hash", "spgist"}:
            raise ValueError(f"an index by {self.method} takes one column")
        return self

    def relation_names(self) -> tuple[str, ...]:
        return (self.name,)

    def preconditions(self, scope: Scope) -> Iterator[Finding]:
        taken = scope.catalog.relations.get(self.name)
        if self.name in scope.claimed:
            taken = "index or sequence that follows the table"
        if taken:
            yield blocker(
                "name-taken",
                f"{scope.schema}.{self.name}",
                f"The index's name {scope.schema}.{self.name} is taken by {with_article(taken)}.",
                f"Rename or drop that {taken}, or give the index another name in the spec.",
            )
        for column in self.columns:
            if scope.table.column(column) is None and column not in scope.added:
                yield blocker(
                    "column-missing",
                    f"{scope.schema}.{scope.table.name}.{column}",
                    f"Index {self.name!r} names column {column!r}, which table "
                    f"{scope.table.name!r} does not have.",
                    f"Its columns are {', '.join(c.name for c in scope.table.columns)}.",
                )
            elif column in scope.added and self.method not in {"btree", "hash"}:
                yield blocker(
                    "no-operator-class",
                    f"{scope.schema}.{self.name}",
                    f"Index {self.name!r} is by {self.method}, which cannot index column "
                    f"{column!r}: it is of an enum type.",
                    "Leave out `method`, or name `hash`.",
                )
        yield from column_findings(scope, self.name, self.columns, self.method)
        if self.unique:
            yield from unique_findings(scope, self.name, self.columns)
        if self.method == "btree":
            yield from length_findings(scope, self.name)
        for (schema, _), name in self._part_names(scope).items():
            if ("relation", schema, name) in scope.catalog.reserved:
                yield blocker(
                    "name-taken",
                    f"{schema}.{name}",
                    f"The name {schema}.{name}, which a partition's part of index {self.name!r} "
                    "gets, is taken.",
                    "Rename or drop what has it, then review again.",
                )
        derived = self._derived(scope.table_after)
        if self.name not in derived.values():
            named = ", ".join(f"{tool} {name!r}" for tool, name in derived.items())
            yield note(
                "index-name",
                f"{scope.schema}.{self.name}",
                f"Index {self.name!r} has a name of its own; by its columns it would be {named}.",
                "Name it in the model (Prisma: `map:`; SQLAlchemy: the first argument of `Index`), "
                "or the tool sees a difference.",
            )

    def _derived(self, table: str) -> dict[str, str]:
        """Return the names that tools derive for such an index, from the names of the columns."""
        columns = "_".join(self.columns)
        label = "key" if self.unique else "idx"
        return {
            "in Prisma": f"{table}_{columns}_{label}",
            "in SQLAlchemy": f"ix_{table}_{columns}",
        }

    def statements(self, scope: Scope) -> Iterator[Statement]:
        if scope.table.kind == "p":
            yield from self._of_partitions(scope)
            return
        yield scope.statement(
            self._definition(scope.relation, self.name),
            f"Create the index {self.name}",
            lock=Lock.SHARE,
            undo=sql.render("DROP INDEX {index}", index=sql.name(scope.schema, self.name)),
            made=Made(kind="index", name=self.name),
            row_us=BUILD_US,
        )

    def _of_partitions(self, scope: Scope) -> Iterator[Statement]:
        """Yield what makes an index for each partition and attaches it. Left to itself PostgreSQL
        would take a partition's own index of the same columns for a part of the new one, and drop
        it together with that (docs, CREATE INDEX)."""
        yield self._of_no_partition(scope, Phase.ATOMIC)
        names = self._part_names(scope)
        row_us = BUILD_US / max(1, len(scope.table.leaves))
        for one in scope.table.partitions:
            name = names[one.schema, one.name]
            table = sql.name(one.schema, one.name)
            is_leaf = one.kind != "p"
            yield scope.statement(
                self._definition(table if is_leaf else sql.compose("ONLY {t}", t=table), name),
                f"Create the index {name}",
                lock=Lock.SHARE,
                row_us=row_us if is_leaf else 0.0,
            )
            yield self._attach(scope, one, names)

    def _of_no_partition(self, scope: Scope, phase: Phase) -> Statement:
        """Return what makes the index of a partitioned table. Partitions that come later get theirs
        by it at once."""
        return scope.statement(
            self._definition(sql.compose("ONLY {table}", table=scope.relation), self.name),
            f"Create the index {self.name}, of no partition yet",
            lock=Lock.SHARE,
            undo=sql.render("DROP INDEX {index}", index=sql.name(scope.schema, self.name)),
            phase=phase,
            made=Made(kind="index", name=self.name),
        )

    def _attach(
        self, scope: Scope, partition: Partition, names: Mapping[tuple[str, str], str]
    ) -> Statement:
        """Return what makes a partition's index a part of its parent's."""
        table = (partition.schema, partition.name)
        parent = partition.parent if partition.level > 1 else None
        return scope.statement(
            sql.render(
                "ALTER INDEX {index} ATTACH PARTITION {own}",
                index=sql.name(parent[0], names[parent])
                if parent
                else sql.name(scope.schema, self.name),
                own=sql.name(partition.schema, names[table]),
            ),
            f"Attach the index {names[table]}",
            lock=Lock.ACCESS_EXCLUSIVE,
        )

    def _part_names(self, scope: Scope) -> dict[tuple[str, str], str]:
        """Return the name of each partition's index: the one that PostgreSQL would give, with a
        number where an index of a partition, or of the operations before, has it already."""
        taken = {part.name for one in scope.table.partitions for part in one.indexes}
        taken |= {index.name for index in scope.table.indexes} | scope.claimed | {self.name}
        names: dict[tuple[str, str], str] = {}
        for one in scope.table.partitions:
            name = next(
                name
                for n in count()
                if (name := object_name(one.name, "_".join(self.columns), f"idx{n or ''}"))
                not in taken
            )
            names[one.schema, one.name] = name
            taken.add(name)
        return names

    def online_preconditions(self, scope: Scope) -> Iterator[Finding]:
        if any(one.level > 1 for one in scope.table.partitions):
            yield blocker(
                "sub-partitions",
                f"{scope.schema}.{scope.table.name}",
                f"Index {self.name!r} cannot be built online: partitions of "
                f"{scope.table.name!r} have partitions themselves.",
                "Choose mode `atomic`, or build the index in a migration of your own.",
            )

    def online_statements(self, scope: Scope) -> Iterator[Statement]:
        if scope.table.kind != "p":
            yield self._concurrently(scope.schema, scope.table_name, self.name, scope)
            return
        yield self._of_no_partition(scope, Phase.EXPAND)
        names = self._part_names(scope)
        for one in scope.table.partitions:
            table = (one.schema, one.name)
            yield replace(self._concurrently(*table, names[table], scope), table=table)
            yield replace(self._attach(scope, one, names), phase=Phase.CUTOVER, table=table)

    def _concurrently(self, schema: str, table: str, name: str, scope: Scope) -> Statement:
        """Return what builds the index of one table beside the application's writes."""
        index = sql.name(schema, name)
        return scope.statement(
            self._definition(sql.name(schema, table), name, sql.compose("CONCURRENTLY ")),
            f"Create the index {name}",
            lock=Lock.SHARE_UPDATE_EXCLUSIVE,
            # It may have gone with a column, or with the partitioned table's index.
            undo=sql.render("DROP INDEX IF EXISTS {index}", index=index),
            phase=Phase.INDEX,
            role=Role.CONCURRENT,
            row_us=CONCURRENT_US,
            state=self._state(schema, table, name),
            cleanup=sql.render("DROP INDEX CONCURRENTLY {index}", index=index),
        )

    def adds(self, scope: Scope) -> Additions:
        return Additions(indexes=frozenset({self.name}))

    def _state(self, schema: str, table: str, name: str) -> str:
        """Return the query for the `State` of the index: only one of exactly this definition is
        ours, valid or not."""
        wanted = self._facts(table)
        return sql.render(
            _STATE,
            facts=sql.compose(_INDEX, index=sql.value(name), schema=sql.value(schema)),
            wanted=sql.value(Jsonb({key: wanted[key] for key in wanted if key != "valid"})),
            name=sql.value(name),
            schema=sql.value(schema),
        )

    def needed_bytes(self, scope: Scope) -> int:
        return scope.census.total * ENTRY_BYTES

    def after(self, scope: Scope) -> Scope:
        return scope.with_names([self.name, *self._part_names(scope).values()])

    def _definition(self, table: sql.Composable, name: str, how: sql.Composable = _PLAINLY) -> str:
        return sql.render(
            "CREATE {unique}INDEX {how}{index} ON {table} USING {method} ({columns})",
            unique=sql.compose("UNIQUE " if self.unique else ""),
            how=how,
            index=name,
            table=table,
            method=self.method,
            columns=sql.names(self.columns),
        )

    def checks(self, expected: Expected) -> Iterator[Check]:
        yield Check(
            id=expected.check_id("index"),
            title=f"{self.name} is in pg_indexes, valid, on exactly its columns",
            sql=sql.render(
                _INDEX,
                index=sql.value(self.name),
                schema=sql.value(expected.schema),
            ),
            expected=self._facts(expected.table_after),
        )

    def _facts(self, table: str) -> dict[str, object]:
        """Return what `_INDEX` says of the finished index."""
        return {
            "table": table,
            "columns": list(self.columns),
            "method": self.method,
            "unique": self.unique,
            "ascending": True,
            "partial": False,
            "valid": True,
        }


_INDEX: LiteralString = """\
SELECT jsonb_build_object(
    'table', x.tablename, 'method', m.amname, 'unique', i.indisunique,
    'ascending', (SELECT bool_and(o = 0) FROM unnest(i.indoption::int2[]) AS o),
    'partial', i.indpred IS NOT NULL, 'valid', i.indisvalid AND i.indisready,
    'columns', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum))
FROM pg_indexes x
JOIN pg_namespace n ON n.nspname = x.schemaname
JOIN pg_class c ON c.relname = x.indexname AND c.relnamespace = n.oid
JOIN pg_index i ON i.indexrelid = c.oid
JOIN pg_am m ON m.oid = c.relam
WHERE x.schemaname = {schema} AND x.indexname = {index}"""

_STATE: LiteralString = """\
SELECT CASE
    WHEN NOT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = {schema} AND c.relname = {name}) THEN 'absent'
    WHEN facts - 'valid' IS DISTINCT FROM {wanted} THEN 'foreign'
    WHEN (facts ->> 'valid')::bool THEN 'done'
    ELSE 'leftover'
END FROM (SELECT ({facts}) AS facts) AS found"""
