"""rename_table: the table and everything that carries its name.

PostgreSQL renames the table alone: primary key, foreign keys, constraints, indexes and sequences
keep the old name until somebody stumbles over it. Here they follow in the same transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, LiteralString

from pydantic import Field

from runbook import sql
from runbook.facts import Table
from runbook.operations.base import (
    NAME_BYTES,
    Expected,
    Name,
    Operation,
    Scope,
    blocker,
    carried_name,
    in_phase,
    note,
    with_article,
)
from runbook.operations.old_name_view import view_findings, view_statements
from runbook.vocabulary import Check, Finding, Lock, Made, Phase, Statement

_RENAMES: dict[str, tuple[LiteralString, Lock]] = {
    "constraint": (
        "ALTER TABLE {table} RENAME CONSTRAINT {before} TO {after}",
        Lock.ACCESS_EXCLUSIVE,
    ),
    "index": ("ALTER INDEX {schema}.{before} RENAME TO {after}", Lock.SHARE_UPDATE_EXCLUSIVE),
    "sequence": ("ALTER SEQUENCE {schema}.{before} RENAME TO {after}", Lock.ACCESS_EXCLUSIVE),
}


@dataclass(frozen=True, kw_only=True)
class _Dependent:
    """Something that carries the table's name: `kind` is a key of `_RENAMES`."""

    kind: str
    before: str
    after: str
    is_relation: bool
    """Whether its name shares the schema's namespace of relations."""

    def is_cut(self, before: str, after: str) -> bool:
        """Return whether its new name is not all of what it would be."""
        return len(self.before.encode()) - len(before.encode()) + len(after.encode()) > NAME_BYTES


class RenameTable(Operation):
    """Give the table another name in its schema; it stays the same table, with the same OID."""

    online_last: ClassVar[bool] = True

    op: Literal["rename_table"]
    to: Name = Field(description="the table's new name")

    def relation_names(self) -> tuple[str, ...]:
        return (self.to,)

    def preconditions(self, scope: Scope) -> Iterator[Finding]:
        yield from self._name_findings(scope)
        if scope.old_name_view:
            yield from view_findings(scope)
        claimed: dict[str, str] = {}
        for dependent in _dependents(scope.table, scope.table_name, self.to):
            taken = scope.catalog.relations.get(dependent.after) if dependent.is_relation else None
            if dependent.is_relation and dependent.after == self.to:
                taken = "table"
            if any(c.name == dependent.after for c in scope.table.constraints):
                taken = "constraint"
            rival = claimed.setdefault(dependent.after, dependent.before)
            if taken or rival != dependent.before:
                by = with_article(taken) if taken else f"{rival!r}, cut to the same 63 bytes"
                yield blocker(
                    "dependent-name-taken",
                    f"{scope.schema}.{dependent.before}",
                    f"{dependent.kind.capitalize()} {dependent.before!r} would become "
                    f"{dependent.after!r}, but that name is taken by {by}.",
                    "Rename or drop one of them, then review again.",
                )
            elif dependent.is_cut(scope.table_name, self.to):
                yield note(
                    "name-cut",
                    f"{scope.schema}.{dependent.before}",
                    f"{dependent.kind.capitalize()} {dependent.before!r} becomes "
                    f"{dependent.after!r}, cut at {NAME_BYTES} bytes.",
                    "Name it so in the application's model, or give it a shorter name first.",
                )

    def _name_findings(self, scope: Scope) -> Iterator[Finding]:
        """Yield who holds the new name already; a table takes a relation's and a type's name."""
        object_ = f"{scope.schema}.{self.to}"
        taken = scope.catalog.relations.get(self.to)
        if taken == "table":
            yield blocker(
                "both-tables",
                object_,
                f"Both tables are there: {scope.schema}.{scope.table_name}, to be renamed, "
                f"and {object_}.",
                f"Find out which one the application uses; rename or drop {self.to} if it is not "
                "needed, then review again.",
            )
        elif taken or self.to in scope.catalog.types:
            yield blocker(
                "name-taken",
                object_,
                f"The new name {object_} is taken by {with_article(taken or 'type')}.",
                f"Rename or drop that {taken or 'type'}, then review again.",
            )

    def statements(self, scope: Scope) -> Iterator[Statement]:
        before, after = scope.table_name, self.to
        yield scope.statement(
            sql.render("ALTER TABLE {table} RENAME TO {after}", table=scope.relation, after=after),
            f"Rename the table to {after}",
            lock=Lock.ACCESS_EXCLUSIVE,
            undo=sql.render(
                "ALTER TABLE {table} RENAME TO {before}",
                table=sql.name(scope.schema, after),
                before=before,
            ),
            made=Made(kind="table", name=after, before=before),
        )
        if scope.old_name_view:
            yield from view_statements(scope, after)
        for dependent in _dependents(scope.table, before, after):
            template, lock = _RENAMES[dependent.kind]
            yield scope.statement(
                _rename(template, scope.schema, after, dependent.before, dependent.after),
                f"Rename {dependent.kind} {dependent.before}",
                lock=lock,
                undo=_rename(template, scope.schema, after, dependent.after, dependent.before),
                made=Made(kind=dependent.kind, name=dependent.after, before=dependent.before),
            )

    def online_statements(self, scope: Scope) -> Iterator[Statement]:
        return in_phase(Phase.CUTOVER, self.statements(scope))

    def checks(self, expected: Expected) -> Iterator[Check]:
        yield Check(
            id=expected.check_id("table"),
            title=f"{expected.table_after} is in pg_tables, {expected.table_before} is not",
            sql=sql.render(
                "SELECT coalesce(jsonb_agg(tablename ORDER BY tablename), '[]') FROM pg_tables\n"
                "WHERE schemaname = {schema} AND tablename IN ({tables})",
                schema=sql.value(expected.schema),
                tables=sql.values([expected.table_before, expected.table_after]),
            ),
            expected=[expected.table_after],
        )
        yield Check(
            id=expected.check_id("old-names"),
            title=f"No constraint, index or sequence still carries {expected.table_before}'s name",
            sql=sql.render(
                _OLD_NAMES,
                table=expected.named,
                prefix=sql.value(expected.table_before + "_"),
                kept=sql.value(expected.table_after + "_"),
                # What an upgrade to PostgreSQL 18 names by itself was never the run's to rename.
                without=sql.values(["t"] if expected.named_not_null else ["t", "n"]),
            ),
            expected=[],
        )

    def after(self, scope: Scope) -> Scope:
        taken = [d.after for d in _dependents(scope.table, scope.table_name, self.to)]
        return scope.renamed(self.to).with_names(taken)


def _rename(template: LiteralString, schema: str, table: str, before: str, after: str) -> str:
    """Return the statement that renames one dependent of a table."""
    return sql.render(
        template, table=sql.name(schema, table), schema=schema, before=before, after=after
    )


def _dependents(table: Table, before: str, after: str) -> Iterator[_Dependent]:
    """Yield what carries the table's name, with the name it gets; an index of a constraint follows
    that constraint by itself."""
    backed = {index.name for index in table.indexes if index.of_constraint}
    owned: list[tuple[str, str, bool]] = [
        *(
            ("constraint", constraint.name, constraint.name in backed)
            for constraint in table.constraints
        ),
        *(("index", index.name, True) for index in table.indexes if not index.of_constraint),
        *(("sequence", sequence.name, True) for sequence in table.sequences),
    ]
    for kind, name, is_relation in owned:
        renamed = carried_name(name, before, after)
        if renamed and renamed != name:
            yield _Dependent(kind=kind, before=name, after=renamed, is_relation=is_relation)


_OLD_NAMES: LiteralString = """\
SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM (
    -- A constraint trigger is a trigger, and keeps its name as they all do.
    SELECT conname AS name FROM pg_constraint
    WHERE conrelid = {table}::regclass AND contype <> ALL (ARRAY[{without}]::"char"[])
    UNION
    SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = {table}::regclass
    UNION
    SELECT s.relname FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.refobjid = {table}::regclass AND d.deptype IN ('a', 'i')
) AS dependents
WHERE starts_with(name, {prefix}) AND NOT starts_with(name, {kept})"""
