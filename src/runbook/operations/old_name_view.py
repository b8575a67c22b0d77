"""The view under the table's old name, for an application that knows no other yet.

It has the columns of before, and whoever could use the table can use it. It reads and writes with
the rights of whoever uses it (`security_invoker`; docs, CREATE VIEW), so that policies hold and a
right that is taken away later is gone here, too. That asks for SELECT on every column of the table:
where a role has rights on columns only, the view goes by its own rights instead. Its columns have
the table's defaults, for who looks them up in the catalog; but for a default whose text would have
code of its type's owner run to be read. A row that is inserted gets it from the table all the same.
"""

from collections.abc import Iterator

from runbook import sql
from runbook.facts import Grant
from runbook.operations.base import Scope
from runbook.vocabulary import Finding, Level, Lock, Phase, Statement


def view_findings(scope: Scope) -> Iterator[Finding]:
    """Yield who cannot use the view as it used the table."""
    roles = sorted({grant.role or "PUBLIC" for grant in scope.table.grants if grant.column})
    if roles and scope.table.row_security:
        yield Finding(
            level=Level.WARNING,
            code="view-not-for-columns",
            object=f"{scope.schema}.{scope.table_name}",
            message=f"The table has policies, and {', '.join(roles)} has rights on some of its "
            "columns only: under the old name they will be refused.",
            remedy="Move what uses these roles to the new name together with the migration, or "
            "grant them SELECT on the whole table.",
        )


def _goes_by_own_rights(scope: Scope) -> bool:
    """Return whether the view reads as its owner, whom no policy holds back."""
    by_columns = any(grant.column for grant in scope.table.grants)
    return by_columns and not scope.table.row_security


def view_statements(scope: Scope, after: str) -> Iterator[Statement]:
    """Yield what makes the view of the renamed table, and what removes it later.

    They come before a sequence of the table takes its new name: a default names it by the old one.
    """
    view = sql.name(scope.schema, scope.table_name)
    drop = sql.render("DROP VIEW {view}", view=view)
    yield scope.statement(
        sql.render(
            "CREATE VIEW {view} WITH (security_invoker = {invoker}) AS\n"
            "SELECT {columns} FROM {table}",
            invoker=sql.compose("false" if _goes_by_own_rights(scope) else "true"),
            view=view,
            columns=sql.names(column.name for column in scope.table.columns),
            table=sql.name(scope.schema, after),
        ),
        f"Leave a view under the old name {scope.table_name}",
        lock=Lock.NONE,
        undo=drop,
    )
    for column in scope.table.columns:
        if column.default_is_read_by_code:
            continue
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


_RIGHTS = {
    right: sql.raw(right)
    for right in (
        ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"]
    )
}
"""The rights on a table, as PostgreSQL writes them; of no other text is SQL made."""


def _grant(view: sql.Composable, grant: Grant) -> str:
    columns = sql.compose(" ({column})", column=grant.column) if grant.column else sql.compose("")
    rights = sql.join(
        ", ",
        (
            sql.compose("{right}{columns}", right=_RIGHTS[right], columns=columns)
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
