"""Why PostgreSQL would refuse to add a column to a table and to give its rows a value."""

from collections.abc import Iterator

from runbook.operations.base import Scope, blocker, carried_name, not_null_name
from runbook.vocabulary import Finding

MOST_COLUMNS = 1_600
"""MaxHeapAttributeNumber in PostgreSQL's source; a dropped column keeps its number."""


def addition_findings(scope: Scope, column: str) -> Iterator[Finding]:
    """Yield why PostgreSQL would not add the column."""
    table = f"{scope.schema}.{scope.table.name}"
    if scope.table.is_typed:
        yield blocker(
            "typed-table",
            table,
            f"{table} is a typed table: its columns are those of its type.",
            "Turn it into a table of its own for good (ALTER TABLE … NOT OF).",
        )
    if scope.table.row_type_users:
        yield blocker(
            "row-type-used",
            table,
            f"The type of {table}'s rows is used by {', '.join(scope.table.row_type_users)}, "
            "so PostgreSQL refuses to alter the table.",
            "Drop that column, or change its type, for the time of the migration.",
        )
    if scope.table.attributes >= MOST_COLUMNS:
        yield blocker(
            "too-many-columns",
            table,
            f"{table}, or a partition of it, has {scope.table.attributes:,} columns, dropped ones "
            f"included, and PostgreSQL allows {MOST_COLUMNS:,}.",
            "Copy it into a new table, which forgets dropped columns (pg_dump, or CREATE TABLE … "
            "AS), or into two.",
        )
    own, before = not_null_name(scope.table_after, column), scope.table.name
    # Older versions forget the name of NOT NULL.
    keeps_names = scope.catalog.server.version_number >= 180_000
    for constraint in scope.table.constraints:
        carried = carried_name(constraint.name, before, scope.table_after)
        if own in {constraint.name, carried} and keeps_names:
            yield blocker(
                "name-taken",
                f"{table}.{constraint.name}",
                f"Constraint {constraint.name!r} has, or gets, the name {own!r}, which the "
                f"NOT NULL of {column!r} will have.",
                "Rename that constraint.",
            )
    for one in scope.table.partitions:
        if any(part.name == own for part in one.constraints) and keeps_names:
            yield blocker(
                "name-taken",
                f"{one.schema}.{one.name}.{own}",
                f"Partition {one.schema}.{one.name} has a constraint {own!r}, the name of the NOT "
                f"NULL of {column!r}.",
                "Rename that constraint.",
            )


def violation_findings(scope: Scope) -> Iterator[Finding]:
    """Yield constraints by which PostgreSQL may refuse to update a row."""
    for constraint in scope.table.constraints:
        if constraint.kind in "cn" and constraint.may_be_violated:
            yield blocker(
                "constraint-not-valid",
                constraint.name,
                f"Constraint {constraint.name!r} is NOT VALID: a row that violates it cannot "
                "be updated, and would end the run.",
                "Validate it (ALTER TABLE … VALIDATE CONSTRAINT), or drop it.",
            )
