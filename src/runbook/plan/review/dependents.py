"""What depends on the table, and does not follow the change by itself."""

from collections.abc import Iterator, Mapping

from runbook.facts import Grant, Kind, Related, Surroundings, Table
from runbook.operations.base import blocker, note, warning
from runbook.plan.model import Options
from runbook.spec import Spec
from runbook.vocabulary import Finding

_HISTORIES: Mapping[str, str] = {
    "Prisma": "Write its migration with `runbook export prisma`, and have it recorded as run with "
    "`runbook migrate --prisma-dir DIR`.",
    "Alembic": "Let `runbook export alembic` write a revision and Alembic run it; or run the "
    "migration here: that revision then finds it done.",
    "Flyway": "Let `runbook plan --format flyway` write a file for it, or tell it afterwards.",
    "Liquibase": "Let `runbook plan --format liquibase` write a changelog for it, or tell it "
    "afterwards (changelog-sync).",
}
"""What to do about each tool's history."""

SHOWN = 5
"""How many names are told of each kind; the inventory has them all."""


def dependent_findings(
    spec: Spec, table: Table, around: Surroundings, options: Options
) -> Iterator[Finding]:
    """Yield what would break, stay behind, or have a say in the change."""
    object_ = f"{table.schema}.{table.name}"
    if spec.table_after != spec.table:
        yield from _old_name_findings(table, around, options.old_name_view)
    if spec.classify:
        yield from _column_findings(table, around, spec.classify.column)
    for one in around.of_kind(Kind.SUBSCRIPTION):
        yield (blocker if one.enabled else warning)(
            "subscribed",
            one.name,
            f"{object_} receives its rows from subscription {one.name!r}"
            + ("." if one.enabled else ", which is disabled."),
            "Migrate the publisher together with this database: disable the subscription (ALTER "
            "SUBSCRIPTION … DISABLE) before, and enable it once both are migrated.",
        )
    for one in around.of_kind(Kind.EVENT_TRIGGER):
        if one.enabled:
            yield warning(
                "event-trigger",
                one.name,
                f"Event trigger {one.name!r} ({one.detail}) fires for DDL of this database.",
                "Read what it does; disable it for the time of the migration if it refuses or "
                "alters DDL (ALTER EVENT TRIGGER … DISABLE).",
            )
    for one in around.of_kind(Kind.HISTORY):
        yield note(
            "tool-history",
            one.name,
            f"{one.detail} migrates this database as well: it keeps its history in {one.name}.",
            _HISTORIES[one.detail],
        )
    for one in around.of_kind(Kind.EXTENSION):
        if one.on_table:
            yield blocker(
                "extension-member",
                object_,
                f"{object_} belongs to extension {one.name!r}.",
                "Leave it to the extension, or take it out (ALTER EXTENSION … DROP TABLE …).",
            )


def _old_name_findings(table: Table, around: Surroundings, view: bool) -> Iterator[Finding]:
    """Yield what knows the table by its old name."""
    for one in around.of_kind(Kind.ROUTINE_TEXT):
        yield _routine_finding(one, table, view)
    called = around.of_kind(Kind.STATEMENT)
    if called:
        yield note(
            "statements-in-use",
            f"{table.schema}.{table.name}",
            f"pg_stat_statements has {len(called)} statements that name the table, the most "
            f"frequent with {called[0].name}: {called[0].detail}",
            "Have the applications know the new name by the time of the migration, or leave a view "
            "under the old one (--old-name-view).",
        )
    kept = [
        one
        for one in around.of_kind(Kind.STATISTICS, Kind.TRIGGER, Kind.POLICY)
        if one.on_table and one.name.startswith(f"{table.name}_")
    ]
    if kept:
        yield note(
            "names-kept",
            f"{table.schema}.{table.name}",
            f"{_listed(kept)} carries the table's name, and keeps it.",
            "Rename it in a migration of your own if it shall follow.",
        )


def _routine_finding(one: Related, table: Table, view: bool) -> Finding:
    """Return what becomes of a function whose text names the table."""
    named = f"{one.name} names {table.name!r} ({one.detail})."
    change = (
        "Change its text together with the migration (CREATE OR REPLACE FUNCTION), or leave a view "
        "under the old name (--old-name-view) until it is changed."
    )
    if view:
        return note(
            "function-names-table",
            one.name,
            f"Function {named}",
            "It goes on through the view under the old name; change it before that is dropped.",
        )
    if one.on_table and one.enabled:
        return blocker("trigger-names-table", one.name, f"Trigger function {named}", change)
    return warning("function-names-table", one.name, f"Function {named}", change)


def _column_findings(table: Table, around: Surroundings, column: str) -> Iterator[Finding]:
    """Yield who will not see the new column."""
    views = [one for one in around.of_kind(Kind.VIEW, Kind.MATERIALIZED_VIEW) if one.on_table]
    if views:
        yield note(
            "views-lack-column",
            f"{table.schema}.{table.name}",
            f"{_listed(views)} will not show {column!r}.",
            "Nothing is to be done, unless it shall: CREATE OR REPLACE VIEW then.",
        )
    partly = sorted({one.role or "PUBLIC" for one in table.grants if _is_by_column(one, table)})
    if partly:
        yield warning(
            "column-grants",
            f"{table.schema}.{table.name}",
            f"{', '.join(map(repr, partly))} has rights on single columns, and will have none on "
            f"{column!r}.",
            "Grant them what they need on the new column after the migration.",
        )


def _is_by_column(grant: Grant, table: Table) -> bool:
    """Return whether a grant gives a right on a column that its role has not on the whole table, of
    its own or as everybody."""
    whole = {
        right
        for one in table.grants
        if not one.column and one.role in (grant.role, None)
        for right in one.rights
    }
    return bool(grant.column) and not whole.issuperset(grant.rights)


def _listed(found: list[Related]) -> str:
    """Return the first few, by kind and name."""
    names = ", ".join(f"{one.kind.value} {one.name}" for one in found[:SHOWN])
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return f"{names[0].upper()}{names[1:]}{more}"
