"""Checks by the application's own SQLAlchemy models: they import, map the table, and query it."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runbook import sql
from runbook.operations.base import Expected, warning
from runbook.spec import Models, Spec
from runbook.verify.drift import foreseen_drift, model_drift
from runbook.vocabulary import CheckResult, Finding


def model_checks(
    connection: psycopg.Connection[Any], spec: Spec, expected: Expected
) -> list[CheckResult]:
    """Return the checks `model`, `relationships` and `model-drift`, each with what was asked."""
    models = spec.models
    assert models is not None
    with _as_the_application(connection, expected.schema):
        results = [_model_check(connection, spec, models, expected)]
        if models.relationship:
            results.append(_relationship_check(connection, models, models.relationship, expected))
        return [*results, _drift_check(connection, models, expected)]


_DEFAULT_SCHEMA = "public"
"""Where PostgreSQL looks for a name without a schema, as its own search_path says."""


@contextmanager
def _as_the_application(connection: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    """Have names without a schema mean the spec's: an application of many tenants sets its
    search_path so, and its models name no schema."""
    if schema == _DEFAULT_SCHEMA:
        yield
        return
    path = sql.render("{schema}, {default}", schema=schema, default=_DEFAULT_SCHEMA)
    before = connection.execute("SELECT current_setting('search_path')").fetchone()
    connection.execute("SELECT set_config('search_path', %s, false)", [path])
    try:
        yield
    finally:
        connection.execute("SELECT set_config('search_path', %s, false)", before)


def _model_check(
    connection: psycopg.Connection[Any], spec: Spec, models: Models, expected: Expected
) -> CheckResult:
    """Import model and enum and read a row through the ORM."""
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    wanted: dict[str, object] = {
        "table": f"{expected.schema}.{expected.table_after}",
        "query": "answered",
    }
    if models.enum and spec.classify:
        wanted["labels"] = sorted(spec.classify.labels)
    observed: dict[str, object] = {}
    text = f"-- import {models.module}"
    try:
        module = importlib.import_module(models.module)
        model = getattr(module, models.model)
        table = model.__table__
        observed["table"] = f"{table.schema or expected.schema}.{table.name}"
        if "labels" in wanted:
            observed["labels"] = sorted(
                member.value for member in getattr(module, str(models.enum))
            )
        query = select(model).limit(1)
        with Session(_engine(connection)) as session:
            text = _sql(session, query)
            session.scalars(query).first()
        observed["query"] = "answered"
    except Exception as error:
        observed["error"] = _in_a_line(error)
    return _result(
        expected.check_id("model"),
        f"Model {models.model}"
        + (f" and enum {models.enum}" if models.enum else "")
        + " import, map the table and read a row",
        text,
        wanted,
        observed,
    )


def _relationship_check(
    connection: psycopg.Connection[Any], models: Models, relationship: str, expected: Expected
) -> CheckResult:
    """Follow the relationship from every related model to the migrated table."""
    from sqlalchemy import inspect, select
    from sqlalchemy.orm import Session

    wanted: dict[str, Any] = dict.fromkeys(models.related, expected.table_after)
    observed: dict[str, object] = {}
    texts: list[str] = []
    try:
        module = importlib.import_module(models.module)
        with Session(_engine(connection)) as session:
            for name in models.related:
                related = getattr(module, name)
                attribute = getattr(related, relationship)
                query = select(*inspect(related).primary_key).join(attribute).limit(1)
                texts.append(_sql(session, query))
                session.execute(query).first()
                observed[name] = attribute.property.mapper.local_table.name
    except Exception as error:
        observed["error"] = _in_a_line(error)
    return _result(
        expected.check_id("relationships"),
        f"{relationship} leads from {', '.join(models.related)} to the table, by the ORM's JOIN",
        ";\n\n".join(texts),
        wanted,
        observed,
    )


def _drift_check(
    connection: psycopg.Connection[Any], models: Models, expected: Expected
) -> CheckResult:
    """Compare the model's table with the database's: nothing may be left to change."""
    observed: dict[str, object] = {}
    try:
        table = getattr(importlib.import_module(models.module), models.model).__table__
        with _engine(connection).connect() as connected:
            observed["differences"] = model_drift(connected, table.metadata, table)
    except Exception as error:
        observed["error"] = _in_a_line(error)
    return _result(
        expected.check_id("model-drift"),
        f"Nothing of {expected.table_after} differs from {models.model}: columns, types, defaults, "
        "enum labels, indexes and keys with their names",
        f"-- alembic.autogenerate.compare_metadata of {models.module}.{models.model}, then the "
        "labels of its\n-- enum types and the names of its keys",
        {"differences": []},
        observed,
    )


def foreseen_findings(connection: psycopg.Connection[Any], spec: Spec) -> Iterator[Finding]:
    """Yield what the check `model-drift` will find after the migration, before it is run."""
    models = spec.models
    assert models is not None
    object_ = f"{models.module}.{models.model}"
    try:
        table = getattr(importlib.import_module(models.module), models.model).__table__
        with (
            _as_the_application(connection, spec.schema_),
            _engine(connection).connect() as connected,
        ):
            found = foreseen_drift(connected, table.metadata, table, spec)
    except Exception as error:
        found = [f"they cannot be read ({_in_a_line(error)})"]
    if found:
        more = f"; and {len(found) - 3:,} more" if found[3:] else ""
        yield warning(
            "model-drift",
            object_,
            f"The models do not fit the table, beyond what the migration changes: "
            f"{'; '.join(found[:3])}{more}.",
            "Mend the models or the table first: the migration would be applied, and end with exit "
            "code 4 by the check `model-drift`.",
        )


def _result(
    id_: str, title: str, text: str, wanted: dict[str, Any], observed: dict[str, object]
) -> CheckResult:
    return CheckResult(
        id=id_, title=title, sql=text, expected=wanted, observed=observed, passed=observed == wanted
    )


def _engine(connection: psycopg.Connection[Any]) -> Any:
    """Return an engine over the connection at hand; its URL holds nothing secret."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connection,
        poolclass=StaticPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
    )


def _sql(session: Any, query: Any) -> str:
    """Return the SQL that the ORM emits, values in their places."""
    return str(query.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
