"""The trigger that classifies what the application writes while the table is migrated online.

It is generated from the same rules as everything else. The rules' text is used as it is: the new
row is a relation with the table's columns to it, and `#variable_conflict use_column` has a name
mean the column (docs, 41.11.1).
"""

import hashlib
from collections.abc import Iterable, Iterator

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
    yield _function(scope, column, label, Phase.EXPAND)
    yield from _trigger(
        scope,
        trigger_name(column),
        sql.compose("BEFORE INSERT OR UPDATE"),
        column,
        phase=Phase.EXPAND,
    )


def contract_trigger(scope: Scope, column: str, rule_columns: Iterable[str]) -> Iterator[Statement]:
    """Yield what removes the trigger at the cutover, and its function; where a view stays under
    the old name, what serves that takes the trigger's place."""
    yield scope.statement(
        _drop_trigger(scope, trigger_name(column), scope.table_name),
        "Drop the trigger",
        lock=Lock.ACCESS_EXCLUSIVE,
        phase=Phase.CUTOVER,
    )
    if scope.old_name_view:
        yield from _serving(scope, column, rule_columns, Phase.CUTOVER)
    else:
        yield scope.statement(
            _drop_function(scope, column), "Drop its function", lock=Lock.NONE, phase=Phase.CUTOVER
        )


def serve_old_name(
    scope: Scope, column: str, label: sql.Composable, rule_columns: Iterable[str]
) -> Iterator[Statement]:
    """Yield function and triggers for an application that does not know the column."""
    yield _function(scope, column, label, Phase.ATOMIC)
    yield from _serving(scope, column, rule_columns, Phase.ATOMIC)


def _serving(
    scope: Scope, column: str, rule_columns: Iterable[str], phase: Phase
) -> Iterator[Statement]:
    """Yield the triggers that classify a row whose writer says nothing of its label, and what
    removes them later."""
    yield scope.statement(
        _drop_function(scope, column), "Drop its function", lock=Lock.NONE, phase=Phase.CONTRACT
    )
    for event, when, name in (
        (
            sql.compose("BEFORE INSERT"),
            sql.compose("NEW.{column} IS NULL", column=column),
            _cut(f"~runbook_insert_{column}"),
        ),
        (
            sql.compose("BEFORE UPDATE OF {columns}", columns=sql.names(rule_columns)),
            sql.compose("NEW.{column} IS NOT DISTINCT FROM OLD.{column}", column=column),
            _cut(f"~runbook_update_{column}"),
        ),
    ):
        yield from _trigger(scope, name, event, column, phase=phase, when=when)
        yield scope.statement(
            _drop_trigger(scope, name, scope.table_after),
            "Drop the trigger that served the old name",
            lock=Lock.ACCESS_EXCLUSIVE,
            phase=Phase.CONTRACT,
        )


def _function(scope: Scope, column: str, label: sql.Composable, phase: Phase) -> Statement:
    body = sql.render(
        "\n#variable_conflict use_column\nBEGIN\n    SELECT {label}\n"
        "    INTO NEW.{column} FROM (SELECT NEW.*) AS new_row;\n    RETURN NEW;\nEND\n",
        label=label,
        column=column,
    )
    return scope.statement(
        sql.render(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql\n"
            "    SET search_path = pg_catalog, {schema}, pg_temp\nAS {body}",
            function=sql.name(scope.schema, _function_name(scope, column)),
            schema=scope.schema,
            body=sql.dollar_quoted(body),
        ),
        f"Create the function that gives a new row its {column}",
        lock=Lock.NONE,
        undo=_drop_function(scope, column),
        phase=phase,
    )


def _trigger(
    scope: Scope,
    name: str,
    event: sql.Composable,
    column: str,
    *,
    phase: Phase,
    when: sql.Composable | None = None,
) -> Iterator[Statement]:
    """Yield what makes a trigger that fires for replicated rows, too."""
    parts: dict[str, sql.Composable | str] = {"table": scope.relation, "trigger": name}
    yield scope.statement(
        sql.render(
            "CREATE TRIGGER {trigger} {event} ON {table}\n"
            "    FOR EACH ROW {when}EXECUTE FUNCTION {function}()",
            event=event,
            when=sql.compose("WHEN ({when}) ", when=when) if when else sql.compose(""),
            function=sql.name(scope.schema, _function_name(scope, column)),
            **parts,
        ),
        f"Give every row that is written its {column}",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        undo=_drop_trigger(scope, name, scope.table_name),
        phase=phase,
    )
    yield scope.statement(
        sql.render("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", **parts),
        "Have it fire for replicated rows, too",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        phase=phase,
    )


def _drop_trigger(scope: Scope, name: str, table: str) -> str:
    return sql.render(
        "DROP TRIGGER {trigger} ON {table}", trigger=name, table=sql.name(scope.schema, table)
    )


def _drop_function(scope: Scope, column: str) -> str:
    return sql.render(
        "DROP FUNCTION {function}()", function=sql.name(scope.schema, _function_name(scope, column))
    )
