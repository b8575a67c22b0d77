"""Making the plan: spec + catalog → statements. Pure: no connection, no clock, no randomness."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runbook import sql
from runbook.facts import Catalog, Table, TypeFacts
from runbook.operations.base import Operation, Scope
from runbook.plan.model import Options, Plan, hashed
from runbook.plan.tally import tally_after, tally_before
from runbook.settings import pinned, set_local
from runbook.spec import Spec
from runbook.vocabulary import Lock, Role, Statement

STATEMENTS_MS = 50.0
"""Milliseconds for all that does not depend on the rows."""

TALLY_US = 1.5
"""Microseconds to count and fingerprint one row."""


@dataclass(frozen=True)
class Step:
    """An operation and the scope that it finds."""

    operation: Operation
    scope: Scope


def steps(spec: Spec, catalog: Catalog, table: Table, options: Options) -> Iterator[Step]:
    """Yield each operation with what those before it will have left."""
    scope = Scope(
        catalog=catalog,
        table=table,
        table_name=table.name,
        enums={name: type_.labels for name, type_ in catalog.types.items() if type_.kind == "e"},
        lock_timeout_ms=options.lock_timeout_ms,
    )
    for operation in spec.operations:
        yield Step(operation, scope)
        scope = operation.after(scope)


def build_plan(spec: Spec, catalog: Catalog, options: Options) -> Plan:
    """Return the plan. Asked only where the review found no blocker."""
    assert catalog.table is not None and catalog.census is not None
    table = catalog.table
    course = list(steps(spec, catalog, table, options))
    return Plan(
        migration=spec.name,
        mode="atomic",
        schema=table.schema,
        table_before=table.name,
        table_after=spec.table_after,
        statements=(
            *_opening(course[0].scope, spec, options),
            *(one for step in course for one in step.operation.statements(step.scope)),
            _closing(course[0].scope, spec),
        ),
        reasons=tuple(why for step in course for why in step.operation.reasons(step.scope)),
        predicted=catalog.census.predicted,
        estimated_lock_ms=estimated_lock_ms(course),
        facts=plan_facts(table, catalog.types),
        extended=_extended(course[-1], catalog),
        spec_sha256=spec.sha256,
        ledger_schema=catalog.ledger_schema,
    )


def _extended(last: Step, catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Return the existing enum types that get further labels, with all that they will have."""
    enums = last.operation.after(last.scope).enums
    return {
        name: enums[name]
        for name, type_ in catalog.types.items()
        if name in enums and enums[name] != type_.labels
    }


def plan_facts(table: Table, types: Mapping[str, TypeFacts]) -> dict[str, object]:
    """Return the facts that the plan rests on and its hash covers."""
    return {
        "table": hashed(table),
        "types": {name: hashed(type_) for name, type_ in types.items()},
    }


def estimated_lock_ms(course: list[Step]) -> float:
    """Return how long the table is likely to be locked: two tallies and the operations."""
    rows = course[0].scope.census.total
    return (
        STATEMENTS_MS
        + 2 * rows * TALLY_US / 1000
        + sum(step.operation.estimated_ms(step.scope) for step in course)
    )


def _opening(scope: Scope, spec: Spec, options: Options) -> Iterator[Statement]:
    """Yield what comes before the first change: limits, the lock, the tally."""
    for setting, values in (
        ("lock_timeout", (f"{options.lock_timeout_ms}ms",)),
        ("statement_timeout", (f"{options.statement_timeout_ms}ms",)),
        # What is reported as done must survive a crash of the server.
        ("synchronous_commit", ("on",)),
        *pinned(scope.schema),
    ):
        yield scope.statement(
            set_local(setting, *values),
            f"Set {setting} for this transaction",
            lock=Lock.NONE,
            role=Role.SETTING,
        )
    yield scope.statement(
        # A deferred trigger still pending would refuse the later ALTER TABLE (error 55006).
        "SET CONSTRAINTS ALL IMMEDIATE",
        "Have deferred triggers fire at once",
        lock=Lock.NONE,
        role=Role.SETTING,
    )
    yield scope.statement(
        sql.render("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", table=scope.relation),
        "Lock the table",
        lock=Lock.ACCESS_EXCLUSIVE,
        role=Role.LOCK,
    )
    yield scope.statement(
        tally_before(scope.table, spec.classify),
        "Count and fingerprint every row before the change",
        lock=Lock.ACCESS_SHARE,
        role=Role.TALLY_BEFORE,
    )


def _closing(scope: Scope, spec: Spec) -> Statement:
    """Return the last statement: the tally that everything is judged by."""
    return scope.statement(
        tally_after(scope.table, spec.table_after, spec.classify),
        "Count and fingerprint every row after the change",
        lock=Lock.ACCESS_SHARE,
        role=Role.TALLY_AFTER,
    )
