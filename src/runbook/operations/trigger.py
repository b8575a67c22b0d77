"""The triggers that classify what the application writes while the table is migrated online.

They are generated from the same rules as everything else. The rules' text is used as it is: the new
row is a relation with the table's columns to it, and `#variable_conflict use_column` has a name
mean the column (docs, 41.11.1).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import LiteralString

from runbook import sql
from runbook.operations.base import NAME_BYTES, Scope
from runbook.trust.settings import pinned
from runbook.vocabulary import Lock, Phase, Statement

OWN = "~runbook_"
"""What the names of the run's triggers begin with."""


def insert_trigger(column: str) -> str:
    """Return the name of the trigger for new rows: triggers fire in the order of their names (docs,
    37.1), and this one must see what the application's own have made of the row."""
    return _cut(f"{OWN}insert_{column}")


def update_trigger(column: str) -> str:
    """Return the name of the trigger for rows that are updated."""
    return _cut(f"{OWN}update_{column}")


def function_name(scope: Scope, column: str) -> str:
    """Return the name of their function."""
    return _cut(f"runbook_classify_{scope.table.name}_{column}")


def _cut(name: str) -> str:
    """Return a name that PostgreSQL keeps whole; a long one ends with a hash of all of it."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def expand_trigger(scope: Scope, column: str, label: sql.Composable) -> Iterator[Statement]:
    """Yield what makes function and triggers. `label` is the expression over the row's columns, as
    text: a writer may lack USAGE on the schema that a cast would name.
    """
    yield _function(scope, column, label, Phase.EXPAND)
    yield from _on_insert(scope, column, sql.compose(""), Phase.EXPAND)
    yield from _on_update(scope, column, Phase.EXPAND)


def contract_trigger(scope: Scope, column: str, rule_columns: Sequence[str]) -> Iterator[Statement]:
    """Yield what removes triggers and function at the cutover. Where a view stays under the old
    name, others take their place, for an application that does not know the column."""
    for name in (insert_trigger(column), update_trigger(column)):
        yield _dropped(scope, name, scope.table_name, Phase.CUTOVER)
    if scope.old_name_view:
        yield from _serving(scope, column, rule_columns, Phase.CUTOVER)
    else:
        yield _drop_function(scope, column, Phase.CUTOVER)


def serve_old_name(
    scope: Scope, column: str, label: sql.Composable, rule_columns: Sequence[str]
) -> Iterator[Statement]:
    """Yield function and triggers for an application that does not know the column."""
    yield _function(scope, column, label, Phase.ATOMIC)
    yield from _serving(scope, column, rule_columns, Phase.ATOMIC)


def _serving(
    scope: Scope, column: str, rule_columns: Sequence[str], phase: Phase
) -> Iterator[Statement]:
    """Yield the triggers beside a view, and what removes them later. They leave alone what an
    application that knows the column has written into it: a label that it gives, and every label
    as long as nothing changes that the rules look at: as it is stored, for 1.0 = 1.00 to a number
    and not to its text."""
    missing = sql.compose("WHEN (NEW.{column} IS NULL) ", column=column)
    yield from _on_insert(scope, column, missing, phase)
    new, old = (
        sql.join(", ", (sql.compose(row, name=name) for name in rule_columns)) for row in _ROWS
    )
    # A function, since PostgreSQL prints an operator on rows so that it cannot be read again.
    changed = sql.compose(
        " AND NOT pg_catalog.record_image_eq(ROW({new}), ROW({old}))", new=new, old=old
    )
    yield from _on_update(scope, column, phase, changed if rule_columns else None)
    yield from _contracting(scope, column)


_ROWS: tuple[LiteralString, ...] = ("NEW.{name}", "OLD.{name}")


def _contracting(scope: Scope, column: str) -> Iterator[Statement]:
    """Yield what removes all of it long after, the last first."""
    yield _drop_function(scope, column, Phase.CONTRACT)
    for name in (update_trigger(column), insert_trigger(column)):
        yield _dropped(scope, name, scope.table_after, Phase.CONTRACT)


def _on_insert(
    scope: Scope, column: str, when: sql.Composable, phase: Phase
) -> Iterator[Statement]:
    return _trigger(scope, column, insert_trigger(column), "BEFORE INSERT", when=when, phase=phase)


def _on_update(
    scope: Scope, column: str, phase: Phase, also: sql.Composable | None = None
) -> Iterator[Statement]:
    """Yield the trigger for updates by who does not know the column. It does not fire for the
    backfill's own, which would take a quarter longer (16 µs a row)."""
    when = sql.compose(
        "WHEN (pg_catalog.enum_eq(NEW.{column}, OLD.{column}){also}) ",
        column=column,
        also=also or sql.compose(""),
    )
    return _trigger(scope, column, update_trigger(column), "BEFORE UPDATE", when=when, phase=phase)


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
            "    {settings}\nAS {body}",
            function=sql.name(scope.schema, function_name(scope, column)),
            settings=sql.join("\n    ", _settings(scope.schema)),
            body=sql.dollar_quoted(body),
        ),
        f"Create the function that gives a new row its {column}",
        lock=Lock.NONE,
        undo=_drop_function(scope, column, phase).sql,
        phase=phase,
    )


def _settings(schema: str) -> Iterator[sql.Composable]:
    """Yield what the rules mean their text by, whatever the writer's own settings are."""
    for name, values in pinned():
        if name != "row_security":
            yield sql.compose("SET {name} = {values}", name=name, values=sql.values(values))


def _trigger(
    scope: Scope,
    column: str,
    name: str,
    event: LiteralString,
    *,
    when: sql.Composable,
    phase: Phase,
) -> Iterator[Statement]:
    """Yield what makes a trigger that fires for replicated rows, too."""
    yield scope.statement(
        sql.render(
            "CREATE TRIGGER {trigger} {event} ON {table}\n"
            "    FOR EACH ROW {when}EXECUTE FUNCTION {function}()",
            trigger=name,
            table=scope.relation,
            event=sql.compose(event),
            when=when,
            function=sql.name(scope.schema, function_name(scope, column)),
        ),
        f"Give every row its {column}: {event.lower()}",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        undo=_dropped(scope, name, scope.table_name, phase).sql,
        phase=phase,
    )
    yield scope.statement(
        sql.render(
            "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}",
            table=scope.relation,
            trigger=name,
        ),
        "Have it fire for replicated rows, too",
        lock=Lock.SHARE_ROW_EXCLUSIVE,
        phase=phase,
    )


def _dropped(scope: Scope, name: str, table: str, phase: Phase) -> Statement:
    return scope.statement(
        sql.render(
            "DROP TRIGGER {trigger} ON {table}", trigger=name, table=sql.name(scope.schema, table)
        ),
        f"Drop the trigger {name}",
        lock=Lock.ACCESS_EXCLUSIVE,
        phase=phase,
    )


def _drop_function(scope: Scope, column: str, phase: Phase) -> Statement:
    return scope.statement(
        sql.render(
            "DROP FUNCTION {function}()",
            function=sql.name(scope.schema, function_name(scope, column)),
        ),
        "Drop their function",
        lock=Lock.NONE,
        phase=phase,
    )
