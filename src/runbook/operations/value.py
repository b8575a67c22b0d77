"""A column's value in a rule: as text, and compared as its own type compares it.

Everything here is PostgreSQL's own, but for a type that is none of PostgreSQL's: that is printed by
its own output function and compared by its own equality. So a rule on a `citext` column ignores
case, as the application's own SQL does. A column of a domain over such a type is cast to the type
first: an overload on the domain, which its owner may make, would fit better.

No literal is read as a type that has a domain or a composite type in it: that runs the CHECK of the
domain, which may be added at any time, whatever lock is held on the table (docs, ALTER DOMAIN; a
composite type takes another attribute as easily). Such values are compared as they are printed.

Everything is named with its schema, operators too: where triggers of the application must find
their tables, its schema is searched while these expressions are evaluated, and an operator that
somebody made there to fit better must not be found.
"""

from collections.abc import Iterable

from runbook import sql
from runbook.facts import Column, ForeignType

_EQUAL = {
    "a": "array_eq",
    "r": "range_eq",
    "m": "multirange_eq",
}
"""PostgreSQL's equality of values made of others, by the kind of their type."""


def as_text(column: Column | None, reference: sql.Composable) -> sql.Composable:
    """Return a column's value as text; NULL stays NULL."""
    if column is None or column.foreign is None:
        return sql.compose("{column}::pg_catalog.text", column=reference)
    return _printed(column.foreign, reference)


def as_exact_text(column: Column, reference: sql.Composable) -> sql.Composable:
    """Return a column's value as the text that is another one for any other stored value."""
    if column.is_padded:
        return sql.compose("pg_catalog.textin(pg_catalog.bpcharout({column}))", column=reference)
    return as_text(column, reference)


def _printed(type_: ForeignType, reference: sql.Composable) -> sql.Composable:
    return sql.compose(
        "pg_catalog.textin({output}({column}))",
        output=sql.name(*type_.printed_by),
        column=_fitting(type_, type_.printed_by, reference),
    )


def _fitting(
    type_: ForeignType, function: tuple[str, str], reference: sql.Composable
) -> sql.Composable:
    """Return a column as an argument of a function of its type. In a schema that is not
    PostgreSQL's the function may have overloads; one on the very type is preferred to all (docs,
    10.3), and such a cast calls nothing."""
    if function[0] == "pg_catalog":
        return reference
    return sql.compose("{column}::{type}", column=reference, type=sql.name(*type_.name))


def enum_text(*name: str) -> sql.Composable:
    """Return the label of an enum column as text."""
    return sql.compose("pg_catalog.textin(pg_catalog.enum_out({column}))", column=sql.name(*name))


def is_label(column: sql.Composable, label: sql.Composable) -> sql.Composable:
    """Return the predicate that an enum column has a label, which may be a literal. By its
    function: somebody's implicit cast would make `=` that of another type (docs, 10.2)."""
    return sql.compose("pg_catalog.enum_eq({column}, {label})", column=column, label=label)


def is_other_label(column: str, label: sql.Composable) -> sql.Composable:
    """Return the predicate that an enum column has any other label than that, or none."""
    return sql.compose("{same} IS NOT TRUE", same=is_label(sql.name(column), label))


def equals(
    column: Column | None, reference: sql.Composable, items: Iterable[object]
) -> sql.Composable:
    """Return the predicate that a column's value is one of some."""
    literals = [sql.value(item) for item in items]
    foreign = column.foreign if column else None
    if foreign and (function := _equality(foreign)):
        return _called(foreign, function, reference, literals)
    compared = _printed(foreign, reference) if foreign else reference
    return _any(
        sql.compose("{column} OPERATOR(pg_catalog.=) {item}", column=compared, item=item)
        for item in literals
    )


def like(
    column: Column | None, reference: sql.Composable, patterns: Iterable[str]
) -> sql.Composable:
    """Return the predicate that a column's text is like one of some patterns."""
    literals = [sql.value(pattern) for pattern in patterns]
    foreign = column.foreign if column else None
    if foreign and foreign.like_by:
        return _called(foreign, foreign.like_by, reference, literals)
    text = as_text(column, reference)
    if len(literals) == 1:
        return sql.compose("{text} OPERATOR(pg_catalog.~~) {item}", text=text, item=literals[0])
    return sql.compose(
        "{text} OPERATOR(pg_catalog.~~) ANY (ARRAY[{items}])",
        text=text,
        items=sql.join(", ", literals),
    )


def is_null(column: Column | None, reference: sql.Composable, *, null: bool) -> sql.Composable:
    """Return the predicate that a column is NULL, or is not. Of a composite value, which may hold
    NULLs itself, IS NOT NULL says something else (docs, 9.2)."""
    if column and column.foreign and column.foreign.kind == "c":
        test = "IS NOT DISTINCT FROM NULL" if null else "IS DISTINCT FROM NULL"
    else:
        test = "IS NULL" if null else "IS NOT NULL"
    return sql.compose("{column} {test}", column=reference, test=sql.raw(test))


def _equality(type_: ForeignType) -> tuple[str, str] | None:
    """Return the function of a type's equality; that of an enum, and of what no literal is read
    as, is the one of its text."""
    if type_.is_read_by_code:
        return None
    if type_.equal_by:
        return type_.equal_by
    return ("pg_catalog", _EQUAL[type_.kind]) if type_.kind in _EQUAL else None


def _called(
    type_: ForeignType,
    function: tuple[str, str],
    reference: sql.Composable,
    literals: Iterable[sql.Composable],
) -> sql.Composable:
    """Return the predicate that a function of a column's type holds for one of some literals."""
    return _any(
        sql.compose(
            "{function}({column}, {item}::{type})",
            function=sql.name(*function),
            column=_fitting(type_, function, reference),
            item=item,
            type=sql.name(*type_.name),
        )
        for item in literals
    )


def _any(parts: Iterable[sql.Composable]) -> sql.Composable:
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    return sql.compose("({parts})", parts=sql.join(" OR ", listed))
