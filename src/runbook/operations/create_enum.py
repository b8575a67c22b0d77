"""create_enum: an enum type with its labels in order, or further labels for one that exists."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from runbook import sql
from runbook.operations.base import Additions, Expected, Name, Operation, Scope, blocker, in_phase
from runbook.vocabulary import Check, Finding, Level, Lock, Made, Phase, Statement


def _check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if not labels:
        raise ValueError("an enum needs at least one label")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"label {twice[0]!r} stands there twice; each label may stand once")
    return labels


Labels = Annotated[tuple[Name, ...], AfterValidator(_check_labels)]


class CreateEnum(Operation):
    """Create an enum type, or with `extend` append the labels that an existing one lacks.

    A type that is there with exactly these labels is used as it is. An extension commits before
    the rest, since PostgreSQL cannot use a label in the transaction that adds it (55P04), and no
    PostgreSQL can take a label away again: its undo leaves the label, and drops no type that was
    there before.
    """

    op: Literal["create_enum"]
    name: Name = Field(description="the type's name, in the table's schema")
    labels: Labels = Field(description="all labels that the type shall have, in order")
    extend: bool = Field(False, description="add the missing labels to an existing type")

    def relation_names(self) -> tuple[str, ...]:
        return (self.name,)

    def type_names(self) -> tuple[str, ...]:
        return (self.name,)

    def preconditions(self, scope: Scope) -> Iterator[Finding]:
        object_ = f"{scope.schema}.{self.name}"
        there = scope.catalog.types.get(self.name)
        if there is None:
            if self.extend:
                yield blocker(
                    "enum-missing",
                    object_,
                    f"Type {object_} shall be extended, but it is not there.",
                    "Leave out `extend = true` to create it, or correct its name.",
                )
        elif there.kind != "e":
            yield blocker(
                "name-taken",
                object_,
                f"Type {object_} shall be an enum, but that name is taken by another kind of type"
                + (f" (that of {kind} {self.name})." if (kind := self._relation(scope)) else "."),
                "Give the enum another name in the spec.",
            )
        elif self.extend:
            yield from self._extension_findings(scope, object_, there.labels, there.owned)
        elif there.labels != self.labels:
            yield blocker(
                "enum-differs",
                object_,
                f"Type {object_} is there with labels {', '.join(there.labels) or '(none)'}, "
                f"and the spec says {', '.join(self.labels)}.",
                "Correct the labels in the spec, or set `extend = true` to append missing ones.",
            )
        else:
            yield Finding(
                level=Level.NOTE,
                code="enum-reused",
                object=object_,
                message=f"Type {object_} is there with exactly these labels.",
                remedy="It is used as it is.",
            )

    def _relation(self, scope: Scope) -> str | None:
        return scope.catalog.relations.get(self.name)

    def _extension_findings(
        self, scope: Scope, object_: str, labels: tuple[str, ...], owned: bool
    ) -> Iterator[Finding]:
        if self.labels[: len(labels)] != labels:
            yield blocker(
                "enum-differs",
                object_,
                f"Type {object_} has labels {', '.join(labels) or '(none)'}, and they are not "
                f"the first of {', '.join(self.labels)}.",
                "List the existing labels first, in their order, then the new ones.",
            )
        elif self._missing(scope):
            yield Finding(
                level=Level.WARNING,
                code="enum-extended",
                object=object_,
                message=f"Label {', '.join(self._missing(scope))} is added to {object_} in a "
                "transaction of its own, before the rest.",
                remedy="PostgreSQL cannot take a label away: if the migration then fails, the "
                "label stays, unused.",
            )
            if not owned:
                yield blocker(
                    "privilege-missing",
                    object_,
                    f"Type {object_} belongs to another role, and only its owner may add labels.",
                    "Connect as its owner, or let the owner add the labels first.",
                )

    def _missing(self, scope: Scope) -> tuple[str, ...]:
        """Return the labels that an existing type lacks."""
        there = scope.catalog.types.get(self.name)
        return self.labels[len(there.labels) :] if there else ()

    def statements(self, scope: Scope) -> Iterator[Statement]:
        type_ = sql.name(scope.schema, self.name)
        if self.name not in scope.catalog.types:
            yield scope.statement(
                sql.render(
                    "CREATE TYPE {type} AS ENUM ({labels})",
                    type=type_,
                    labels=sql.values(self.labels),
                ),
                f"Create the enum type {self.name}",
                lock=Lock.NONE,
                undo=sql.render("DROP TYPE {type}", type=type_),
                made=Made(kind="type", name=self.name),
            )
        for label in self._missing(scope):
            yield scope.statement(
                sql.render(
                    "ALTER TYPE {type} ADD VALUE {label}", type=type_, label=sql.value(label)
                ),
                f"Add label {label} to {self.name}",
                lock=Lock.NONE,
                phase=Phase.PREPARE,
            )

    def online_statements(self, scope: Scope) -> Iterator[Statement]:
        return in_phase(Phase.EXPAND, self.statements(scope))

    def adds(self, scope: Scope) -> Additions:
        return Additions(types=frozenset({self.name} - scope.catalog.types.keys()))

    def checks(self, expected: Expected) -> Iterator[Check]:
        yield Check(
            id=expected.check_id("enum"),
            title=f"{self.name} has the labels of the spec in pg_enum, in order",
            sql=sql.render(
                "SELECT coalesce(jsonb_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')\n"
                "FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid\n"
                "WHERE t.typname = {type} AND t.typnamespace = {schema}::regnamespace",
                type=sql.value(self.name),
                schema=sql.named(expected.schema),
            ),
            expected=list(self.labels),
        )

    def after(self, scope: Scope) -> Scope:
        return scope.with_enum(self.name, self.labels)
