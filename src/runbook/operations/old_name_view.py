"""The view under the table's old name, for an application that knows no other yet.

It reads and writes the table with the rights of whoever uses it (`security_invoker`; docs, CREATE
VIEW), has the columns of before with their defaults, and whoever could use the table can use it.
"""

from collections.abc import Iterator

from runbook import sql
from runbook.facts import Grant
from runbook.operations.base import Scope
from runbook.vocabulary import Lock, Phase, Statement


def view_statements(scope: Scope, after: str) -> Iterator[Statement]:
    """Yield what makes the view of the renamed table, and what removes it later."""
    view = sql.name(scope.schema, scope.table_name)
    drop = sql.render("DROP VIEW {view}", view=view)
    yield scope.statement(
        sql.render(
            "CREATE VIEW {view} WITH (security_invoker = true) AS\nSELECT {columns} FROM {table}",
            view=view,
            columns=sql.names(column.name for column in scope.table.columns),
            table=sql.name(scope.schema, after),
        ),
        f"Leave a view under the old name {scope.table_name}",
        lock=Lock.NONE,
        undo=drop,
    )
    for column in scope.table.columns:
        if column.default is not None and not column.generated:
            yield scope.statement(
                sql.render(
                    "ALTER VIEW {view} ALTER COLUMN {column} SET DEFAULT {default}",
                    view=view,
                    column=column.name,
                    # As PostgreSQL itself prints it, with every name qualified.
                    default=sql.raw(column.default),
                ),
                f"Give it the default of {column.name}",
                lock=Lock.NONE,
            )
    if scope.table.owner != scope.catalog.server.user:
        yield scope.statement(
            sql.render("ALTER VIEW {view} OWNER TO {owner}", view=view, owner=scope.table.owner),
            "Give it the table's owner",
            lock=Lock.NONE,
        )
    for grant in scope.table.grants:
        yield scope.statement(
            _grant(view, grant), f"Give {grant.role or 'PUBLIC'} its rights on it", lock=Lock.NONE
        )
    yield scope.statement(
        drop,
        f"Drop the view under the old name {scope.table_name}",
        lock=Lock.ACCESS_EXCLUSIVE,
        phase=Phase.CONTRACT,
    )


def _grant(view: sql.Composable, grant: Grant) -> str:
    columns = sql.compose(" ({column})", column=grant.column) if grant.column else sql.compose("")
    rights = sql.join(
        ", ",
        (
            sql.compose("{right}{columns}", right=sql.raw(right), columns=columns)
            for right in grant.rights
        ),
    )
    return sql.render(
        "GRANT {rights} ON {view} TO {role}{option}",
        rights=rights,
        view=view,
        role=sql.name(grant.role) if grant.role else sql.compose("PUBLIC"),
        option=sql.compose(" WITH GRANT OPTION" if grant.grantable else ""),
    )
