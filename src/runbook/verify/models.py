"""Checks by the application's own SQLAlchemy models: they import, map the table, and query it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg

from runbook.errors import BlockedError
from runbook.facts import Act
from runbook.operations.base import Expected, blocker, warning
from runbook.spec import Models, Spec
from runbook.trust.preflight import require_trusted
from runbook.verify.drift import foreseen_drift, in_schema, model_drift
from runbook.vocabulary import CheckResult, Finding


def model_checks(
    connection: psycopg.Connection[Any], spec: Spec, expected: Expected
) -> list[CheckResult]:
    """Return the checks `model`, `relationships` and `model-drift`, each with what was asked."""
    models = spec.models
    assert models is not None
    results = [_model_check(connection, spec, models, expected)]
    if models.relationship:
        results.append(_relationship_check(connection, models, models.relationship, expected))
    return [*results, _drift_check(connection, models, expected)]


_SHIPPED = "runbook.models."
"""What the names of the modules that come with the runbook begin with."""


def may_import(models: Models, *, allowed: bool) -> bool:
    """Return whether the module that a spec names may be imported: it is the runbook's own, or the
    person who runs it says so. A spec is data; a module is code, and may lie in the current folder.
    """
    return allowed or models.module.startswith(_SHIPPED)


def require_models(spec: Spec, *, allowed: bool) -> None:
    """Raise `BlockedError` where a spec names a module that may not be imported."""
    if spec.models and not may_import(spec.models, allowed=allowed):
        raise BlockedError(_not_allowed(spec.models), f"Nothing was changed. {_ALLOW}")


def import_findings(spec: Spec, *, allowed: bool) -> Iterator[Finding]:
    """Yield that a spec names a module that may not be imported."""
    if spec.models and not may_import(spec.models, allowed=allowed):
        yield blocker("models-not-allowed", spec.models.module, _not_allowed(spec.models), _ALLOW)


def _not_allowed(models: Models) -> str:
    return (
        f"The spec names the Python module {models.module!r} as its models, and to import it is to "
        "run it."
    )


_ALLOW = (
    "Read that module; if you trust it, pass --allow-models. Or take [models] out of the spec: its "
    "checks then are not asked."
)


def _imported(models: Models) -> ModuleType:
    """Import the module that a spec names and `may_import` allows.

    It may lie in the current folder. That is searched from here on, since imports of its own may
    come late: after the standard library, before what is installed, as a notebook's kernel does.
    """
    folder = str(Path.cwd())
    if not models.module.startswith(_SHIPPED) and folder not in sys.path:
        installed = (n for n, path in enumerate(sys.path) if path.endswith("-packages"))
        sys.path.insert(next(installed, len(sys.path)), folder)
    return importlib.import_module(models.module)


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
        module = _imported(models)
        model = getattr(module, models.model)
        table = model.__table__
        observed["table"] = f"{table.schema or expected.schema}.{table.name}"
        if "labels" in wanted:
            observed["labels"] = sorted(
                member.value for member in getattr(module, str(models.enum))
            )
        query = select(model).limit(1)
        with Session(_engine(connection, expected.schema)) as session:
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
        module = _imported(models)
        with Session(_engine(connection, expected.schema)) as session:
            for name in models.related:
                related = getattr(module, name)
                _refuse_code(connection, related.__table__, expected.schema)
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


def _refuse_code(connection: psycopg.Connection[Any], table: Any, schema: str) -> None:
    """Raise `BlockedError` where reading a related table would run code of a less privileged role:
    it is none of the migration's, and its code was not looked at before."""
    tables = [(table.schema or schema, table.name)]
    require_trusted(connection, tables, acts=frozenset({Act.READ}), trusted=False)


def _drift_check(
    connection: psycopg.Connection[Any], models: Models, expected: Expected
) -> CheckResult:
    """Compare the model's table with the database's: nothing may be left to change."""
    observed: dict[str, object] = {}
    try:
        table = getattr(_imported(models), models.model).__table__
        with _engine(connection, expected.schema).connect() as connected:
            observed["differences"] = model_drift(
                connected, *in_schema(table.metadata, table, expected.schema)
            )
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
        table = getattr(_imported(models), models.model).__table__
        with _engine(connection, spec.schema_).connect() as connected:
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


def _engine(connection: psycopg.Connection[Any], schema: str) -> Any:
    """Return an engine over the connection at hand; its URL holds nothing secret. Where the models
    name no schema they mean the spec's, which is written out: none is searched."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connection,
        poolclass=StaticPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        execution_options={"schema_translate_map": {None: schema}},
    )


def _sql(session: Any, query: Any) -> str:
    """Return the SQL that the ORM emits, values in their places."""
    engine = session.get_bind()
    return str(
        query.compile(
            engine,
            schema_translate_map=engine.get_execution_options()["schema_translate_map"],
            render_schema_translate=True,
            compile_kwargs={"literal_binds": True},
        )
    )


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
