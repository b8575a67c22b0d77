"""Drift between the application's models and the migrated table: what Alembic would change.

Alembic's `compare_metadata` sees columns, types, defaults, indexes and foreign keys. It does not
see the labels of an enum type, nor what a primary or foreign key is called; those are compared
here, since an application's own tools would stumble over them later.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from runbook.operations.base import carried_name
from runbook.spec import Spec

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

_PLUGINS = ("alembic.autogenerate.*", "~alembic.autogenerate.comments")
"""What is compared: a comment is the database administrator's own."""


def model_drift(connection: "Connection", metadata: "MetaData", table: "Table") -> list[str]:
    """Return how a mapped table differs from the database's, a sentence each; none where they
    agree. Raises what SQLAlchemy raises where the database cannot be read."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import inspect

    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_schemas": table.schema is not None,
        "include_name": _only(table),
        "include_object": lambda item, name, kind, *_: kind != "table" or item is table,
        "autogenerate_plugins": list(_PLUGINS),
        "target_metadata": metadata,
    }
    context = MigrationContext.configure(connection, opts=options)
    found = [
        sentence
        for difference in compare_metadata(context, metadata)
        for sentence in _sentences(difference)
    ]
    inspector = inspect(connection)
    if inspector.has_table(table.name, table.schema):
        found += _keys(inspector, table)
    return sorted([*found, *_labels(inspector, table)])


def in_schema(
    metadata: "MetaData", table: "Table", schema: str, *, name: str = ""
) -> tuple["MetaData", "Table"]:
    """Return a copy of mapped tables whose names without a schema mean that schema, and the copy of
    one of them, which may get another `name`. So no schema has to be searched."""
    from sqlalchemy import Enum, MetaData

    copied = MetaData()
    copies = {
        one: one.to_metadata(
            copied,
            schema=one.schema or schema,
            name=name if name and one is table else one.name,
        )
        for one in metadata.tables.values()
    }
    for copy in copies.values():
        for column in copy.columns:
            if isinstance(column.type, Enum) and column.type.schema is None:
                column.type.schema = schema
    return copied, copies[table]


def foreseen_drift(
    connection: "Connection", metadata: "MetaData", table: "Table", spec: Spec
) -> list[str]:
    """Return how a mapped table will differ from the database's once a spec is applied, by the
    table as it is before: under its old name, without what the spec adds."""
    before, copied = in_schema(metadata, table, spec.schema_, name=spec.table)
    for index in copied.indexes:
        index.name = _old_name(spec, index.name)
    for constraint in copied.constraints:
        constraint.name = _old_name(spec, constraint.name)
    added = tuple(_added(spec))
    found = model_drift(connection, before, copied)
    return [sentence for sentence in found if not sentence.startswith(added)]


def _old_name(spec: Spec, name: Any) -> Any:
    """Return the name that carried the table's before the migration."""
    return carried_name(str(name), spec.table_after, spec.table) or name if name else name


def _added(spec: Spec) -> Iterator[str]:
    """Yield how the sentences begin that the migration makes untrue."""
    if spec.classify:
        yield f"column {spec.classify.column}:"
    for operation in spec.operations:
        for name in operation.relation_names():
            yield from (f"index {_old_name(spec, name)} ", f"type {name}:")


def _only(table: "Table") -> Callable[[str | None, str, Mapping[str, Any]], bool]:
    """Return what has Alembic read one table and its parts alone."""

    def include(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "schema":
            return name == table.schema
        if kind == "table":
            return name == table.name and parents.get("schema_name") == table.schema
        return True

    return include


def _sentences(difference: Any) -> Iterator[str]:
    """Yield a difference of Alembic's in words."""
    if isinstance(difference, list):  # all that differs in one column
        for kind, _, _, column, _, there, modelled in difference:
            what = str(kind).removeprefix("modify_").replace("nullable", "nullability")
            yield (
                f"column {column}: its {what} is {_shown(there)} in the database, and "
                f"{_shown(modelled)} in the models"
            )
        return
    verb, _, kind = str(difference[0]).partition("_")
    object_ = difference[-1]
    where = (
        "in the models, not in the database"
        if verb == "add"
        else "in the database, not in the models"
    )
    columns = getattr(object_, "columns", ()) if kind in {"index", "constraint", "fk"} else ()
    names = f" ({', '.join(column.name for column in columns)})" if columns else ""
    word = {"fk": "foreign key"}.get(kind, kind)
    yield f"{word} {object_.name or '(without name)'}{names}: {where}"


def _shown(value: object) -> str:
    """Return a type, a default or a nullability in words."""
    if isinstance(value, bool):
        return "NULL" if value else "NOT NULL"
    if value is None:
        return "none"
    default = getattr(value, "arg", value)
    return str(getattr(default, "text", default))


def _keys(inspector: Any, table: "Table") -> Iterator[str]:
    """Yield the keys whose name differs; one without a name in the models may have any."""
    from sqlalchemy import ForeignKeyConstraint

    there = inspector.get_pk_constraint(table.name, table.schema)["name"]
    modelled = table.primary_key.name
    if modelled and there != modelled:
        yield f"primary key: it is {there} in the database, and {modelled} in the models"
    named = {
        tuple(one["constrained_columns"]): one["name"]
        for one in inspector.get_foreign_keys(table.name, table.schema)
    }
    for key in table.constraints:
        if isinstance(key, ForeignKeyConstraint) and key.name:
            found = named.get(tuple(key.column_keys))
            if found is not None and found != key.name:
                yield f"foreign key: it is {found} in the database, and {key.name} in the models"


def _labels(inspector: Any, table: "Table") -> Iterator[str]:
    """Yield the enum types of the table whose labels, or their order, differ."""
    from sqlalchemy import Enum

    types = [column.type for column in table.columns]
    modelled = {one.name: one for one in types if isinstance(one, Enum) and one.native_enum}
    for name, type_ in modelled.items():
        enums = {one["name"]: one["labels"] for one in inspector.get_enums(type_.schema)}
        there, labels = cast("list[str] | None", enums.get(str(name))), list(type_.enums)
        if there is None:
            yield f"type {name}: in the models, not in the database"
        elif there != labels:
            yield (
                f"type {name}: its labels are {', '.join(there)} in the database, and "
                f"{', '.join(labels)} in the models"
            )
