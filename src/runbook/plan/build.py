"""Making the plan: spec + catalog → statements. Pure: no connection, no clock, no randomness."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Literal

from runbook import sql
from runbook.facts import Catalog, Table
from runbook.operations.base import Additions, Operation, Scope
from runbook.plan.digest import digests_after, digests_before, rows_of_ranges, savepoint
from runbook.plan.estimate import FIXED_MS, nominal_ms
from runbook.plan.facts import plan_facts, plan_inputs
from runbook.plan.hand_set import hand_set
from runbook.plan.model import Mode, Options, Plan
from runbook.plan.tally import Tallies
from runbook.spec import Spec
from runbook.trust.settings import more_memory, pinned, set_local
from runbook.vocabulary import Lock, Phase, Role, Statement

MAINTENANCE_MS = 1_500
"""How long a try waits for an autovacuum to give way."""

BATCH_LOCK_MS = 500
"""The longest that a batch waits for a lock: below deadlock_timeout (1 s), after which PostgreSQL
would end the application's transaction and not the batch."""

TALLY_US = 1.5
"""Microseconds to count and fingerprint one row."""

HAND_SET_US = 0.5
"""Microseconds to compare one row's label with the rules."""


@dataclass(frozen=True)
class Step:
    """An operation and the scope that it finds."""

    operation: Operation
    scope: Scope


def steps(
    spec: Spec, catalog: Catalog, table: Table, options: Options, *, online: bool = False
) -> Iterator[Step]:
    """Yield each operation with what those before it will have left."""
    scope = Scope(
        catalog=catalog,
        table=table,
        table_name=table.name,
        table_after=spec.table_after,
        enums={name: type_.labels for name, type_ in catalog.types.items() if type_.kind == "e"},
        lock_timeout_ms=options.lock_timeout_ms,
        old_name_view=options.old_name_view and spec.table_after != spec.table,
    )
    for operation in sorted(spec.operations, key=lambda one: online and one.online_last):
        yield Step(operation, scope)
        scope = operation.after(scope)


def choose_mode(course: list[Step], spec: Spec, options: Options) -> Mode:
    """Return the mode of the plan: `auto` is atomic within the lock budget, and online above it.

    It goes by the nominal figures: what a machine does at the moment must not change the plan.
    """
    if options.mode != "auto":
        return options.mode
    locked_ms = estimated_lock_ms(course, spec, options)
    return "online" if locked_ms > options.lock_budget_ms else "atomic"


def build_plan(spec: Spec, catalog: Catalog, options: Options) -> Plan:
    """Return the plan. Asked only where the review found no blocker."""
    assert catalog.table is not None and catalog.census is not None
    table = catalog.table
    atomic = list(steps(spec, catalog, table, options))
    mode = choose_mode(atomic, spec, options)
    online = list(steps(spec, catalog, table, options, online=True)) if mode == "online" else []
    there = tuple(
        _online_statements(online, spec, options)
        if online
        else _atomic_statements(atomic, spec, options)
    )
    rows = catalog.census.total
    return Plan(
        migration=spec.name,
        mode=mode,
        schema=table.schema,
        table_before=table.name,
        table_after=spec.table_after,
        statements=(*there, *_way_back(atomic, spec, options)),
        reasons=tuple(why for step in atomic for why in step.operation.reasons(step.scope)),
        predicted=catalog.census.predicted,
        estimated_lock_ms=FIXED_MS if online else nominal_ms(there, rows),
        estimated_ms=nominal_ms(there, rows),
        facts=plan_facts(table, catalog.types, catalog.owner_code),
        extended=_extended(atomic[-1], catalog),
        adds=_adds(online),
        spec_sha256=spec.sha256,
        ledger_schema=catalog.ledger_schema,
        inputs=plan_inputs(catalog, table, options),
    )


def proof_of(spec: Spec, options: Options) -> Literal["hash", "sha256"]:
    """Return how the data is proved."""
    return spec.proof if options.proof == "spec" else options.proof


def _tallies(scope: Scope, spec: Spec) -> Tallies:
    """Return the queries that count and fingerprint."""
    return Tallies.of(scope.table, spec.classify, scope.census)


def _extended(last: Step, catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Return the existing enum types that get further labels, with all that they will have."""
    enums = last.operation.after(last.scope).enums
    return {
        name: enums[name]
        for name, type_ in catalog.types.items()
        if name in enums and enums[name] != type_.labels
    }


def _adds(course: list[Step]) -> dict[str, tuple[str, ...]]:
    """Return what the catalog shows of the operations before the cutover."""
    added = reduce(or_, (step.operation.adds(step.scope) for step in course), Additions())
    return {name: tuple(sorted(names)) for name, names in vars(added).items()}


def estimated_lock_ms(course: list[Step], spec: Spec, options: Options) -> float:
    """Return how long the atomic mode is likely to lock the table."""
    return nominal_ms(_atomic_statements(course, spec, options), course[0].scope.census.total)


def _atomic_statements(course: list[Step], spec: Spec, options: Options) -> Iterator[Statement]:
    """Yield the statements of the atomic mode: the lock first, a tally before and after."""
    scope = course[0].scope
    yield from _opening(scope, Phase.ATOMIC, options)
    yield from _before(scope, spec, options, Phase.ATOMIC)
    if proof_of(spec, options) == "sha256":
        yield savepoint(scope)
    made = [one for step in course for one in step.operation.statements(step.scope)]
    yield from (one for one in made if one.phase is not Phase.CONTRACT)
    yield from _after(scope.renamed(spec.table_after), spec, options, Phase.ATOMIC)
    if proof_of(spec, options) == "sha256":
        yield from rows_of_ranges(scope, spec.table_after)
    yield from _contracting(scope, made, options)


def _before(scope: Scope, spec: Spec, options: Options, phase: Phase) -> Iterator[Statement]:
    """Yield what the proof takes of the table before it is changed."""
    yield scope.statement(
        _tallies(scope, spec).before(),
        "Count and fingerprint every row before the change",
        lock=Lock.ACCESS_SHARE,
        phase=phase,
        role=Role.TALLY_BEFORE,
        row_us=TALLY_US,
    )
    if proof_of(spec, options) == "sha256":
        yield from digests_before(scope, phase)


def _after(scope: Scope, spec: Spec, options: Options, phase: Phase) -> Iterator[Statement]:
    """Yield what the proof takes of the table, by its present name, after the change."""
    yield scope.statement(
        _tallies(scope, spec).after(scope.table_name),
        "Count and fingerprint every row after the change",
        lock=Lock.ACCESS_SHARE,
        phase=phase,
        role=Role.TALLY_AFTER,
        row_us=TALLY_US,
    )
    if proof_of(spec, options) == "sha256":
        yield from digests_after(scope, phase)


_ONLINE = (Phase.PREPARE, Phase.EXPAND, Phase.BACKFILL, Phase.INDEX, Phase.CUTOVER)
_COMMITS = {Phase.BACKFILL: "off", Phase.EXPAND: "local", Phase.CUTOVER: "local"}
"""How a phase's commits wait. What is reported as done must survive a crash of the server: a batch
and the note of it are lost together, and done again. While it holds the table's lock a commit must
not wait for a replica; the run ends with one that does, and with it all before it."""

_LOCKING = (Phase.EXPAND, Phase.CUTOVER)
"""The phases that lock the table against the application."""


def _online_statements(course: list[Step], spec: Spec, options: Options) -> Iterator[Statement]:
    """Yield the statements of the online mode, phase by phase."""
    scope = course[0].scope
    made = [one for step in course for one in step.operation.online_statements(step.scope)]
    for phase in _ONLINE:
        own = [one for one in made if one.phase is phase]
        if phase in _LOCKING:
            yield from _opening(scope, phase, options)
        elif phase is Phase.BACKFILL and own:
            yield from _settings(scope, phase, options)
            own = [
                *_before(scope, spec, options, phase),
                *own,
                *_after(scope, spec, options, phase),
            ]
        yield from own
    yield from _contracting(scope, made, options)


def _contracting(scope: Scope, made: list[Statement], options: Options) -> Iterator[Statement]:
    """Yield what removes the view under the old name later, the last made first."""
    own = [one for one in made if one.phase is Phase.CONTRACT]
    if own:
        yield from _opening(scope.renamed(scope.table_after), Phase.CONTRACT, options)
        yield from reversed(own)


def _way_back(course: list[Step], spec: Spec, options: Options) -> Iterator[Statement]:
    """Yield what takes the finished run back. The rows are counted before the transaction and after
    it, and not under its lock."""
    scope = course[0].scope

    def counting(text: str, title: str, role: Role, row_us: float = TALLY_US) -> Statement:
        return scope.statement(
            text,
            title,
            lock=Lock.ACCESS_SHARE,
            phase=Phase.ROLLBACK,
            role=role,
            row_us=row_us,
        )

    if spec.classify:
        yield counting(
            hand_set(scope.table, spec.table_after, spec.classify),
            f"Count the rows whose {spec.classify.column} is not the rules'",
            Role.HAND_SET,
            HAND_SET_US,
        )
    yield counting(
        _tallies(scope, spec).after(spec.table_after),
        "Count and fingerprint every row before the rollback",
        Role.TALLY_BEFORE,
    )
    yield from _opening(scope.renamed(spec.table_after), Phase.ROLLBACK, options)
    for step in reversed(course):
        yield from step.operation.undo(step.scope)
    yield counting(
        _tallies(scope, spec).before(),
        "Count and fingerprint every row after the rollback",
        Role.TALLY_AFTER,
    )


def _opening(scope: Scope, phase: Phase, options: Options) -> Iterator[Statement]:
    """Yield what comes before the first change of a transaction that locks the table."""
    yield from _settings(scope, phase, options)
    # A deferred trigger still pending would refuse the later ALTER TABLE (error 55006).
    yield _setting(
        scope, phase, "SET CONSTRAINTS ALL IMMEDIATE", "Have deferred triggers fire at once"
    )
    # Nobody who reads or writes queues behind this one. An autovacuum gives way to who has waited
    # for a second (deadlock_timeout), which a try for the stronger lock never does.
    yield _set(scope, phase, "lock_timeout", f"{MAINTENANCE_MS}ms")
    yield scope.statement(
        sql.render("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE", table=scope.relation),
        "Have an autovacuum give way",
        lock=Lock.SHARE_UPDATE_EXCLUSIVE,
        phase=phase,
        role=Role.SETTING,
    )
    yield _set(scope, phase, "lock_timeout", f"{options.lock_timeout_ms}ms")
    # A partitioned table is locked partition by partition, and lock_timeout holds for each.
    yield _set(scope, phase, "statement_timeout", f"{options.lock_timeout_ms}ms")
    yield scope.statement(
        sql.render("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", table=scope.relation),
        "Lock the table",
        lock=Lock.ACCESS_EXCLUSIVE,
        phase=phase,
        role=Role.LOCK,
    )
    yield _set(scope, phase, "statement_timeout", f"{options.statement_timeout_ms}ms")


def _settings(scope: Scope, phase: Phase, options: Options) -> Iterator[Statement]:
    """Yield the limits of a transaction, and the settings that its SQL is meant under."""
    lock_ms = options.lock_timeout_ms
    if phase is Phase.BACKFILL:
        lock_ms = min(lock_ms, BATCH_LOCK_MS)
    for setting, values in (
        ("lock_timeout", (f"{lock_ms}ms",)),
        ("statement_timeout", (f"{options.statement_timeout_ms}ms",)),
        ("synchronous_commit", (_COMMITS.get(phase, "on"),)),
        *pinned(),
    ):
        yield _set(scope, phase, setting, *values)
    if phase is Phase.ATOMIC:
        yield _setting(
            scope, phase, more_memory(until_commit=True), "Let indexes be built in more memory"
        )


def _set(scope: Scope, phase: Phase, setting: str, *values: str) -> Statement:
    return _setting(
        scope, phase, set_local(setting, *values), f"Set {setting} for this transaction"
    )


def _setting(scope: Scope, phase: Phase, text: str, title: str) -> Statement:
    return scope.statement(text, title, lock=Lock.NONE, phase=phase, role=Role.SETTING)
