"""The trigger that classifies what the application writes while the table is migrated online.

It is generated from the same rules as everything else. The rules' text is used as it is: the new
row is a relation with the table's columns to it, and `#variable_conflict use_column` has a name
mean the column (docs, 41.11.1).
"""

import hashlib
from collections.abc import Iterator

from runbook import sql
from runbook.operations.base import NAME_BYTES, Scope
from runbook.vocabulary import Lock, Phase, Statement


def trigger_name(column: str) -> str:
    """Return the trigger's name: triggers fire in the order of their names (docs, 37.1), and this
    one must see what the application's own have made of the row."""
    return _cut(f"~runbook_classify_{column}")


def _function_name(scope: Scope, column: str) -> str:
    return _cut(f"runbook_classify_{scope.table.name}_{column}")


def _cut(name: str) -> str:
    """Return a name that PostgreSQL keeps whole; a long one ends with a hash of all of it."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def expand_trigger(scope: Scope, column: str, label: sql.Composable) -> Iterator[Statement]:
    """Yield what makes function and trigger. `label` is the expression over the row's columns."""
    function = sql.name(scope.schema, _function_name(scope, column))
    body = sql.render(
        "\n#variable_conflict use_column\nBEGIN\n    SELECT {label}\n"
        "    INTO NEW.{column} FROM (SELECT NEW.*) AS new_row;\n    RETURN NEW;\nEND\n",
        label=label,
        column=column,
    )
    yield scope.statement(
        sql.render(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql\n"
            "    SET search_path = pg_catalog, {schema}, pg_temp\nAS {body}",
            function=function,
            schema=scope.schema,
            body=sql.dollar_quoted(body),
        ),
        f"Create the function that gives a new row its {column}",
        lock=Lock.NONE,
        undo=sql.render("DROP FUNCTION {function}()", function=function),
        phase=Phase.EXPAND,
    )
    parts = {"table": scope.relation, "trigger": sql.name(trigger_name(column))}
    yield scope.statement(
        sql.render(
            "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table}\n"
            "    FOR EACH ROW EXECUTE FUNCTION {function}()",
            function=function,
            **parts,
        ),
        f"Give every row that is written its {column}",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        undo=sql.render("DROP TRIGGER {trigger} ON {table}", **parts),
        phase=Phase.EXPAND,
    )
    yield scope.statement(
        sql.render("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", **parts),
        "Have it fire for replicated rows, too",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        phase=Phase.EXPAND,
    )


def contract_trigger(scope: Scope, column: str, phase: Phase) -> Iterator[Statement]:
    """Yield what removes trigger and function."""
    yield scope.statement(
        sql.render(
            "DROP TRIGGER {trigger} ON {table}",
            trigger=trigger_name(column),
            table=scope.relation,
        ),
        "Drop the trigger",
        lock=Lock.ACCESS_EXCLUSIVE,
        phase=phase,
    )
    yield scope.statement(
        sql.render(
            "DROP FUNCTION {function}()",
            function=sql.name(scope.schema, _function_name(scope, column)),
        ),
        "Drop its function",
        lock=Lock.NONE,
        phase=phase,
    )
