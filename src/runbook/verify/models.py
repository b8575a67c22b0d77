"""Checks by the application's own SQLAlchemy models: they import, map the table, and query it."""

import importlib
from typing import Any

import psycopg

from runbook.operations.base import Expected
from runbook.spec import Models, Spec
from runbook.vocabulary import CheckResult


def model_checks(
    connection: psycopg.Connection[Any], spec: Spec, expected: Expected
) -> list[CheckResult]:
    """Return the checks `model` and `relationships`, each with the SQL that the ORM emitted."""
    models = spec.models
    assert models is not None
    results = [_model_check(connection, spec, models, expected)]
    if models.relationship:
        results.append(_relationship_check(connection, models, models.relationship, expected))
    return results


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
        observed["table"] = f"{table.schema or 'public'}.{table.name}"
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
