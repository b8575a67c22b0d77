"""Conditions of rules: a small typed grammar, so that no SQL text stands in a spec.

Two-valued throughout: a comparison with NULL does not match, and `not` of it does.
"""

from collections.abc import Iterator
from typing import Annotated, Any, LiteralString, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from runbook import sql
from runbook.facts import Table
from runbook.operations.base import Name
from runbook.operations.value import equals, is_null, like


def _listed(item: Any) -> Any:
    """Take a single item for a list of one."""
    return item if isinstance(item, list | tuple) else [item]


Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
_SOME = (BeforeValidator(_listed), Field(min_length=1))
"""One item or a list of them, but not none."""


def _check_pattern(pattern: str) -> str:
    """Return a pattern of LIKE. Raises `ValueError` where its last backslash escapes nothing:
    PostgreSQL refuses it at the first row that it gets so far with (error 22025)."""
    escapes = len(pattern) - len(pattern.rstrip("\\"))
    if escapes % 2:
        raise ValueError(
            f"the pattern {pattern!r} ends with a backslash that escapes nothing; write two for "
            "one that is meant"
        )
    return pattern


Pattern = Annotated[StrictStr, AfterValidator(_check_pattern)]
"""A pattern of LIKE, with `\\` as its escape character."""

_FORMS = ("equals", "like", "is_null", "any", "all", "not")


class Condition(BaseModel):
    """`column` with `equals`, `like` or `is_null`; or `any`, `all`, `not` of other conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    column: Name | None = None
    equals: Annotated[tuple[Scalar, ...], BeforeValidator(_listed), Field(min_length=1)] | None = (
        None
    )
    like: Annotated[tuple[Pattern, ...], *_SOME] | None = None
    is_null: StrictBool | None = None
    any: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = None
    all: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = None
    not_: "Condition | None" = Field(None, alias="not")

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        given = [form for form in _FORMS if getattr(self, form.replace("not", "not_")) is not None]
        if len(given) != 1:
            raise ValueError(
                f"has {' and '.join(given) or 'no comparison'}; "
                f"write exactly one of {', '.join(_FORMS)}"
            )
        if (self.column is not None) != (given[0] in _FORMS[:3]):
            raise ValueError(
                f"{given[0]!r} needs a column"
                if self.column is None
                else f"{given[0]!r} takes conditions, not a column"
            )
        return self

    def columns(self) -> Iterator[str]:
        """Yield the columns it looks at, in the order written."""
        if self.column is not None:
            yield self.column
        for part in (*(self.any or ()), *(self.all or ()), *filter(None, [self.not_])):
            yield from part.columns()

    def compared(self) -> Iterator[tuple[str, str]]:
        """Yield each (column, text) that `equals` compares."""
        for item in self.equals or ():
            if self.column is not None and isinstance(item, str):
                yield self.column, item
        for part in (*(self.any or ()), *(self.all or ()), *filter(None, [self.not_])):
            yield from part.compared()

    def predicate(self, table: Table | None) -> sql.Composable:
        """Return it as an SQL predicate, safe to stand beside AND and OR: on the columns of a table
        as their types compare, or, without one, as a person reads it."""
        if self.any is not None:
            return _joined(" OR ", self.any, table)
        if self.all is not None:
            return _joined(" AND ", self.all, table)
        if self.not_ is not None:
            return sql.compose("({part}) IS NOT TRUE", part=self.not_.predicate(table))
        assert self.column is not None
        column, reference = table.column(self.column) if table else None, sql.name(self.column)
        if self.is_null is not None:
            return is_null(column, reference, null=self.is_null)
        if self.like is not None:
            return like(column, reference, self.like)
        return equals(column, reference, self.equals or ())


def _joined(
    separator: LiteralString, parts: tuple[Condition, ...], table: Table | None
) -> sql.Composable:
    if len(parts) == 1:
        return parts[0].predicate(table)
    return sql.compose(
        "({parts})", parts=sql.join(separator, (part.predicate(table) for part in parts))
    )
