"""classify: an enum column, NOT NULL and without default, filled for every row by ordered rules.

Two ways, chosen by cost (`cost`). Where one label is common, the column comes into being NOT NULL
with that label as its default, which only touches the catalog (PostgreSQL docs, ALTER TABLE, notes
on ADD COLUMN), and only the other rows are updated. Where many rows differ from the commonest
label, one rewrite of the table is cheaper than that many updates.

Online it is always the first way, by block ranges, with a trigger that classifies what the
application writes meanwhile. Until the cutover nobody knows the column, so nobody reads the label
that a row has for the time being.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from runbook import sql
from runbook.facts import Census, Table
from runbook.numbers import duration
from runbook.operations.addition import addition_findings, violation_findings
from runbook.operations.backfill import batch, sweep
from runbook.operations.base import (
    Additions,
    Expected,
    Name,
    Operation,
    Scope,
    blocker,
    not_null_name,
    note,
)
from runbook.operations.cost import rewrite_us, update_us
from runbook.operations.indexes import set_to_itself
from runbook.operations.rule import Rule, label_expression, others_expression
from runbook.operations.trigger import (
    contract_trigger,
    expand_trigger,
    function_name,
    insert_trigger,
    serve_old_name,
    update_trigger,
)
from runbook.operations.value import enum_text, is_label, is_other_label
from runbook.vocabulary import Check, Finding, Level, Lock, Made, Phase, Role, Statement

SCAN_US = 0.5
"""Microseconds to read one row and compare its label with the rules."""


class Classify(Operation):
    """Add the column and give every row its label."""

    op: Literal["classify"]
    column: Name
    type: Name = Field(description="an enum type of the table's schema")
    rules: Annotated[tuple[Rule, ...], Field(alias="rule", min_length=1)]
    otherwise: Name = Field(description="the label of rows that no rule matches")
    expect_otherwise: int = Field(0, ge=0, description="how many such rows are expected at most")

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a row can get, in the order of the rules, each once."""
        return tuple(dict.fromkeys([*(rule.label for rule in self.rules), self.otherwise]))

    def type_names(self) -> tuple[str, ...]:
        return (self.type,)

    def rule_columns(self) -> tuple[str, ...]:
        """Return the columns that the rules look at, each once."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.when.columns()))

    def label_expression(
        self, table: Table | None, cast: sql.Composable | None = None
    ) -> sql.Composable:
        """Return the rules on a table's columns as one CASE expression: text, or each label cast to
        a type."""
        return label_expression(self.rules, self.otherwise, table, cast)

    # -- before ------------------------------------------------------------------------------

    def preconditions(self, scope: Scope) -> Iterator[Finding]:
        table = f"{scope.schema}.{scope.table.name}"
        if scope.table.column(self.column):
            yield blocker(
                "column-exists",
                f"{table}.{self.column}",
                f"Column {self.column!r} is there already on {table}.",
                "Rename or drop it, or give the new column another name in the spec.",
            )
        for name in self.rule_columns():
            if scope.table.column(name) is None:
                yield blocker(
                    "column-missing",
                    f"{table}.{name}",
                    f"The rules look at column {name!r}, which {table} does not have.",
                    f"Its columns are {', '.join(c.name for c in scope.table.columns)}.",
                )
        yield from addition_findings(scope, self.column)
        yield from self._label_findings(scope)
        yield from self._value_findings(scope)
        yield from self._trigger_findings(scope)
        if scope.old_name_view:
            yield from self._serving_findings(scope)
        if self._updates(scope):
            yield from violation_findings(scope)
        if scope.catalog.census:
            yield from self._census_findings(scope.catalog.census, table)

    def _label_findings(self, scope: Scope) -> Iterator[Finding]:
        """Yield what is wrong with the type or the labels."""
        object_ = f"{scope.schema}.{self.type}"
        known = scope.enums.get(self.type)
        if known is None:
            yield blocker(
                "enum-missing",
                object_,
                f"Type {object_} of column {self.column!r} is no enum of this schema.",
                "Add a create_enum operation before, or correct the type's name.",
            )
            return
        for label in self.labels:
            if label not in known:
                yield blocker(
                    "label-missing",
                    object_,
                    f"The rules give label {label!r}, which {object_} does not have.",
                    f"Its labels are {', '.join(known)}.",
                )

    def _value_findings(self, scope: Scope) -> Iterator[Finding]:
        """Yield comparisons of an enum column with something that is none of its labels."""
        for rule in self.rules:
            for name, text in rule.when.compared():
                column = scope.table.column(name)
                if column and column.labels and text not in column.labels:
                    yield blocker(
                        "value-unknown",
                        f"{scope.schema}.{scope.table.name}.{name}",
                        f"The rule for {rule.label} compares {name!r} with {text!r}, which is no "
                        f"label of its type {column.type}.",
                        f"Its labels are {', '.join(column.labels)}.",
                    )

    def _trigger_findings(self, scope: Scope) -> Iterator[Finding]:
        for trigger in scope.table.update_triggers:
            yield Finding(
                level=Level.WARNING,
                code="update-trigger",
                object=trigger.name,
                message=f"Trigger {trigger.name!r} of {trigger.table} fires for every row of it "
                "that is updated.",
                remedy="If it alters a column that existed before, the proof fails, and with it "
                "the run (atomic) or the batch (online): disable it before the review, for the "
                "time of the migration.",
            )

    def _census_findings(self, census: Census, table: str) -> Iterator[Finding]:
        """Yield what the rows as they are say about the rules."""
        last = len(census.rules) - 1
        for place, rule in enumerate(census.rules):
            if place < last and rule.takes == 0:
                yield Finding(
                    level=Level.NOTE,
                    code="rule-takes-nothing",
                    object=rule.label,
                    message=f"No row gets {rule.label} by its rule"
                    + (
                        f": {rule.alone:,} rows match it, and earlier rules take them all."
                        if rule.alone
                        else "."
                    ),
                    remedy=f"If those rows shall be {rule.label}, put its rule first in a spec of "
                    "your own; the plan then shows the other reading."
                    if rule.alone
                    else "Nothing is to be done if that is known.",
                )
        for name, labels in census.nulls.items():
            given = ", ".join(f"{label} ({rows:,})" for label, rows in labels.items())
            yield note(
                "rule-column-null",
                f"{table}.{name}",
                f"{sum(labels.values()):,} rows have NULL in {name!r}, and get {given}.",
                "If that is not what they are, write a rule for them (`is_null = true`).",
            )
        rest = census.rules[last].takes
        if rest > self.expect_otherwise:
            caught = [group for group in census.groups if group.label == self.otherwise]
            examples = ", ".join(
                f"{'/'.join(v if v is not None else 'NULL' for v in group.values)} ({group.rows:,})"
                for group in caught[:3]
            )
            yield Finding(
                level=Level.WARNING,
                code="otherwise-exceeded",
                object=table,
                message=f"{rest:,} rows match no rule and get {self.otherwise}; "
                f"the spec expects at most {self.expect_otherwise:,}. Most frequent: {examples}.",
                remedy="Read the list of these rows and decide whether a rule is missing.",
            )

    # -- the change --------------------------------------------------------------------------

    def _commonest(self, census: Census) -> tuple[str, int]:
        """Return the commonest label (the first of equals) and how many rows differ from it."""
        label = max(self.labels, key=lambda name: census.predicted.get(name, 0))
        return label, census.total - census.predicted.get(label, 0)

    def _default(self, scope: Scope) -> str | None:
        """Return the label for the metadata-only default, or None where a rewrite is cheaper."""
        label, different = self._commonest(scope.census)
        updates_us = different * update_us(scope.table)
        return label if updates_us <= rewrite_us(scope.table, scope.census.total) else None

    def _updates(self, scope: Scope) -> bool:
        """Return whether the atomic mode updates any row."""
        census = scope.catalog.census
        return bool(census and self._default(scope) and self._commonest(census)[1])

    def reasons(self, scope: Scope) -> Iterator[str]:
        label, different = self._commonest(scope.census)
        updates = duration(different * update_us(scope.table) / 1000)
        rewrite = duration(rewrite_us(scope.table, scope.census.total) / 1000)
        way = (
            f"the table is rewritten once (about {rewrite}; that many updates take {updates})"
            if self._default(scope) is None
            else f"{label} comes as a metadata-only default and only the others are updated "
            f"(about {updates}; a rewrite of the table takes {rewrite})"
        )
        yield (
            f"{self.column}: {label} is the commonest label; {different:,} of "
            f"{scope.census.total:,} rows get another one, so {way}."
        )

    def needed_bytes(self, scope: Scope) -> int:
        stored = scope.table.heap_bytes + scope.table.index_bytes
        if self._default(scope) is None:
            return stored  # the old copy stays until the commit
        _, different = self._commonest(scope.census)
        return stored * different // max(1, scope.census.total)

    def _update_us(self, scope: Scope) -> float:
        """Return what updating those that differ takes, in microseconds for each row of all."""
        _, different = self._commonest(scope.census)
        return different * update_us(scope.table) / max(1, scope.census.total)

    def statements(self, scope: Scope) -> Iterator[Statement]:
        label, _ = self._commonest(scope.census)
        yield self._add_column(scope, label)
        if self._default(scope) is None:
            yield self._rewrite(scope)
        else:
            yield scope.statement(
                sql.render(
                    "UPDATE {table}\nSET {assignments}\nWHERE {others}",
                    table=scope.relation,
                    assignments=self._assignments(scope),
                    others=others_expression(self.rules, self.otherwise, label, scope.table),
                ),
                f"Classify the rows that are not {label}",
                lock=Lock.ROW_EXCLUSIVE,
                application_schema=self._application_schema(scope),
                row_us=self._update_us(scope),
            )
            yield self._drop_default(scope, Phase.ATOMIC)
        if scope.old_name_view:
            given = self.label_expression(scope.table)
            yield from serve_old_name(scope, self.column, given, self.rule_columns())

    def _add_column(self, scope: Scope, label: str, phase: Phase = Phase.ATOMIC) -> Statement:
        """Return what adds the column, which touches the catalog only. PostgreSQL 18 keeps the
        name of NOT NULL; older ones take it and forget it."""
        return scope.statement(
            sql.render(
                "ALTER TABLE {table} ADD COLUMN {column} {type}\n"
                "    CONSTRAINT {not_null} NOT NULL DEFAULT {label}",
                table=scope.relation,
                column=self.column,
                type=self._type(scope),
                not_null=not_null_name(scope.table_after, self.column),
                label=sql.value(label),
            ),
            f"Add {self.column} with {label} as its default (touches the catalog only)",
            lock=Lock.ACCESS_EXCLUSIVE,
            undo=sql.render(
                "ALTER TABLE {table} DROP COLUMN {column}", table=scope.relation, column=self.column
            ),
            phase=phase,
            made=Made(kind="column", name=self.column),
        )

    def _drop_default(self, scope: Scope, phase: Phase) -> Statement:
        return scope.statement(
            sql.render(
                "ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT",
                table=scope.relation,
                column=self.column,
            ),
            f"Drop the default of {self.column}",
            lock=Lock.ACCESS_EXCLUSIVE,
            phase=phase,
        )

    def _rewrite(self, scope: Scope) -> Statement:
        return scope.statement(
            sql.render(
                "ALTER TABLE {table}\n    ALTER COLUMN {column} DROP DEFAULT,\n"
                "    ALTER COLUMN {column} TYPE {type} USING\n    {typed}",
                table=scope.relation,
                column=self.column,
                type=self._type(scope),
                typed=self.label_expression(scope.table, self._type(scope)),
            ),
            "Classify every row in one rewrite of the table",
            lock=Lock.ACCESS_EXCLUSIVE,
            row_us=rewrite_us(scope.table, rows := scope.census.total) / max(1, rows),
        )

    def _application_schema(self, scope: Scope) -> str | None:
        """Return where triggers that fire for an updated row look for names, if there are any."""
        return scope.schema if scope.table.update_triggers else None

    def _type(self, scope: Scope) -> sql.Composable:
        return sql.name(scope.schema, self.type)

    def _assignments(self, scope: Scope, *, keys: bool = True) -> sql.Composable:
        """Return what an UPDATE sets: the label, and columns to themselves to spare the indexes."""
        spared = set_to_itself(scope.table, keys=keys)
        same = (sql.compose("{name} = {name}, ", name=name) for name in spared)
        return sql.compose(
            "{same}{column} =\n    {typed}",
            same=sql.join("", same),
            column=self.column,
            typed=self.label_expression(scope.table, self._type(scope)),
        )

    # -- the change, online ------------------------------------------------------------------

    def online_preconditions(self, scope: Scope) -> Iterator[Finding]:
        for one in scope.table.partitions:
            for rule in one.rules:
                yield blocker(
                    "rewrite-rule",
                    rule,
                    f"Rule {rule!r} rewrites statements on {one.schema}.{one.name}, and the "
                    "batches of the online mode name the partition itself.",
                    "Drop or disable the rule for the time of the migration, or choose mode "
                    "`atomic`.",
                )
        if not self._updates(scope):
            yield from violation_findings(scope)
        if not scope.old_name_view:
            yield from self._serving_findings(scope)

    def _serving_findings(self, scope: Scope) -> Iterator[Finding]:
        """Yield what forbids a trigger that classifies what others write."""
        for name in self.rule_columns():
            column = scope.table.column(name)
            if column and column.generated:
                yield blocker(
                    "rule-on-generated-column",
                    f"{scope.schema}.{scope.table.name}.{name}",
                    f"The rules look at {name!r}, which is a generated column: the trigger that "
                    "classifies new rows fires before its value is there.",
                    "Write the rule on the columns that it is generated from, or choose mode "
                    "`atomic` without --old-name-view.",
                )
        for kind, name in (
            ("function", function_name(scope, self.column)),
            ("trigger", insert_trigger(self.column)),
            ("trigger", update_trigger(self.column)),
        ):
            if any((one[0], one[2]) == (kind, name) for one in scope.catalog.reserved):
                yield blocker(
                    "name-taken",
                    f"{scope.schema}.{name}",
                    f"A {kind} {name!r} is there already, and the run makes its own under that "
                    "name.",
                    f"Rename or drop that {kind}, then review again.",
                )
        for trigger in scope.table.before_triggers:
            # By bytes, as PostgreSQL sorts names.
            if trigger.name.encode() >= (own := insert_trigger(self.column)).encode():
                yield blocker(
                    "trigger-fires-later",
                    trigger.name,
                    f"Trigger {trigger.name!r} may fire after {own!r}, which "
                    "classifies new rows, and change what they are classified by.",
                    "Triggers fire in the order of their names: rename it.",
                )

    def online_statements(self, scope: Scope) -> Iterator[Statement]:
        label, _ = self._commonest(scope.census)
        yield self._add_column(scope, label, Phase.EXPAND)
        yield from expand_trigger(scope, self.column, self.label_expression(scope.table))
        for leaf in scope.table.leaves:
            yield self._batch(
                scope,
                leaf,
                Role.BATCH,
                sql.compose(
                    "{common}\n        AND {others}",
                    common=is_label(sql.name(self.column), sql.value(label)),
                    others=others_expression(self.rules, self.otherwise, label, scope.table),
                ),
                f"Classify the rows of a block range of {leaf[1]} that are not {label}",
                row_us=SCAN_US + self._update_us(scope),
            )
            yield self._batch(
                scope,
                leaf,
                Role.REDO,
                is_other_label(self.column, self.label_expression(scope.table, self._type(scope))),
                f"Classify what is left of a block range of {leaf[1]}",
            )
        yield scope.statement(
            sweep(
                scope.relation, self.column, self.label_expression(scope.table, self._type(scope))
            ),
            f"Count the rows of each {self.column}, and find any that is not the rules'",
            lock=Lock.ACCESS_SHARE,
            phase=Phase.BACKFILL,
            role=Role.SWEEP,
            row_us=SCAN_US,
        )
        yield from contract_trigger(scope, self.column, self.rule_columns())
        yield self._drop_default(scope, Phase.CUTOVER)

    def _batch(
        self,
        scope: Scope,
        leaf: tuple[str, str],
        role: Role,
        filter_: sql.Composable,
        title: str,
        *,
        row_us: float = 0.0,
    ) -> Statement:
        """Return the backfill of a range of blocks of one table."""
        assignments = self._assignments(scope, keys=False)
        return scope.statement(
            batch(scope.table, sql.name(*leaf), filter_=filter_, assignments=assignments),
            title,
            lock=Lock.ROW_EXCLUSIVE,
            phase=Phase.BACKFILL,
            role=role,
            table=leaf,
            application_schema=self._application_schema(scope),
            row_us=row_us,
        )

    def adds(self, scope: Scope) -> Additions:
        return Additions(
            columns=frozenset({self.column}),
            constraints=frozenset({not_null_name(scope.table_after, self.column)}),
            update_triggers=frozenset({update_trigger(self.column)}),
            before_triggers=frozenset({insert_trigger(self.column), update_trigger(self.column)}),
        )

    def after(self, scope: Scope) -> Scope:
        return scope.with_column(self.column)

    # -- afterwards --------------------------------------------------------------------------

    def rows_query(self, table: Table) -> str:
        """Return the query on the rows of the migrated table: how many there are of each label that
        they have and label that the rules give them now, in one scan."""
        return sql.render(
            # By the column, and not by its text, which would be made once a row.
            "SELECT {text}, given, rows\nFROM (\n    SELECT {column} AS label,\n    {given} "
            "AS given, count(*) AS rows\n    FROM {table} GROUP BY 1, 2\n"
            ") AS counted ORDER BY 1, 2",
            table=sql.name(table.schema, table.name),
            text=enum_text("label"),
            column=self.column,
            given=self.label_expression(table),
        )

    def checks(self, expected: Expected) -> Iterator[Check]:
        rows = expected.rows_sql
        yield Check(
            id=expected.check_id("complete"),
            title=f"Every row has a {self.column}: as many rows with a label as rows, no NULL",
            sql=rows,
            part="unclassified",
            expected={"rows": expected.total, "with a label": expected.total},
        )
        yield Check(
            id=expected.check_id("distribution"),
            title=f"Rows per {self.column} are as the rules predict",
            sql=rows,
            part="distribution",
            expected={label: n for label, n in expected.categories.items() if n},
        )
        yield Check(
            id=expected.check_id("rules"),
            title=f"No {self.column} differs from the rules evaluated afresh",
            sql=rows,
            part="differing",
            expected=0,
        )
        yield Check(
            id=expected.check_id("column"),
            title=f"{self.column} is of its type, NOT NULL and without default",
            sql=sql.render(
                _COLUMN,
                table=expected.named,
                column=sql.value(self.column),
            ),
            expected={
                "schema": expected.schema,
                "type": self.type,
                "not_null": True,
                "default": None,
            },
        )


_COLUMN = """\
SELECT jsonb_build_object(
    'schema', n.nspname, 'type', t.typname, 'not_null', a.attnotnull,
    'default', pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = {table}::regclass AND a.attname = {column} AND NOT a.attisdropped"""
