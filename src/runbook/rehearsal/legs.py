"""The legs of a rehearsal: up, down and up again on the copy, each with its proof and times."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from runbook.catalog import owner_code_of, read_catalog
from runbook.catalog.ledger import read_recorded
from runbook.errors import RefusedError, RunbookError
from runbook.facts import Catalog
from runbook.plan import Options, Plan, believed_plan, blockers, build_plan, review
from runbook.rehearsal.copy import Copy
from runbook.run import Applied, Course, Executed, apply_atomic
from runbook.run.course import milliseconds
from runbook.run.online import Journal, Limits, apply_online
from runbook.run.rollback import what_failed
from runbook.run.wayback import TakingBack
from runbook.verify import verify
from runbook.vocabulary import CheckResult, Phase, Role


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One way up or down; times in milliseconds."""

    name: str
    """`up`, `down` or `up again`."""
    ms: float
    locked_ms: float
    """How long the application would have been locked out, at the longest."""
    grows_ms: float
    """How much of `ms` grows with the rows."""
    locked_grows_ms: float
    """How much of `locked_ms` does."""
    statements: tuple[Executed, ...]
    proof: Mapping[str, Any]
    says: str
    """What the proof says, in words."""
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether the proof holds and every check passed."""
        return self.proof["passed"] is True and all(one.passed for one in self.checks)


@dataclass(kw_only=True)
class Rehearsing:
    """A rehearsal on a copy."""

    copy: Copy
    original: Catalog
    """What the plan of the original was made from: the copy is migrated as that will be."""
    options: Options
    allow_models: bool = False
    """Whether the module that the spec names may be imported."""
    limits: Limits
    wait_ms: int
    plan: Plan | None = None
    """The plan that the last way up ran."""

    def up(self, name: str) -> Leg:
        """Apply the migration, and ask every check.

        Raises `RefusedError` where anything went wrong: the original is as it was.
        """
        with self._failing(name), self.copy.connect() as connection:
            catalog = read_catalog(
                connection,
                self.copy.spec,
                ledger_schema=self.copy.ledger_schema,
                trust_owner_code=self.options.trust_owner_code,
            )
            # By the original's rows: they choose the default label and the way to classify.
            catalog = replace(catalog, census=self.original.census)
            found = blockers(review(self.copy.spec, catalog, self.options))
            if found:
                raise RefusedError(found[0].message, found[0].remedy)
            self.plan = build_plan(self.copy.spec, catalog, self.options)
            ways = {"atomic": self._atomic, "online": self._online}
            leg = ways[self.plan.mode](name, catalog, self.plan)
            return replace(leg, checks=self._checks(connection))

    def _checks(self, connection: psycopg.Connection[Any]) -> tuple[CheckResult, ...]:
        spec = self.copy.spec
        applied = read_catalog(
            connection, spec, ledger_schema=self.copy.ledger_schema, count=False
        ).applied
        assert applied is not None
        # A copy that could not hold everything differs from the models by that alone.
        return tuple(
            result
            for result in verify(
                connection,
                spec,
                applied,
                ledger_schema=self.copy.ledger_schema,
                known_code=self._known_code(connection),
                allow_models=self.allow_models,
            ).results
            if not (
                self.copy.lacks and result.id == spec.criteria.get("model-drift", "model-drift")
            )
        )

    def _known_code(self, connection: psycopg.Connection[Any]) -> tuple[str, ...]:
        """Return the code of less privileged roles in the copy, where it is trusted."""
        if not self.options.trust_owner_code:
            return ()
        code = owner_code_of(connection, self.copy.spec, self.copy.ledger_schema)
        return tuple(map(str, code))

    def _atomic(self, name: str, catalog: Catalog, plan: Plan) -> Leg:
        began, course = time.monotonic(), Course()
        applied = apply_atomic(
            self.copy.connect,
            self.copy.spec,
            catalog,
            plan,
            run_id=uuid.uuid4(),
            wait_ms=self.wait_ms,
            max_wait_ms=self.limits.max_wait_ms,
            course=course,
        )
        return _leg(name, began, applied, course.statements())

    def _online(self, name: str, catalog: Catalog, plan: Plan) -> Leg:
        began, journal = time.monotonic(), Journal()
        applied = apply_online(
            self.copy.connect,
            self.copy.spec,
            catalog,
            plan,
            run_id=uuid.uuid4(),
            wait_ms=self.wait_ms,
            limits=self.limits,
            journal=journal,
        )
        ms = milliseconds(time.monotonic() - began)
        return Leg(
            name=name,
            ms=ms,
            locked_ms=journal.locked_ms,
            grows_ms=_growing(journal.executed, ms),
            locked_grows_ms=0.0,  # no statement under a lock reads a row
            statements=tuple(journal.executed),
            proof=applied.proof.content(),
            says=applied.proof.says,
            checks=(),
        )

    def down(self) -> Leg:
        """Take the migration back, and compare rows and catalog with those of before.

        Raises `RefusedError` where anything went wrong: the original is as it was.
        """
        began, journal = time.monotonic(), Journal()
        with self._failing("down"), self.copy.connect() as connection:
            recorded = read_recorded(connection, self.copy.ledger_schema, self.copy.spec)
            assert recorded is not None
            way = TakingBack(
                recorded=recorded,
                plan=believed_plan(
                    recorded.plan,
                    recorded.entry.plan_sha256,
                    self.copy.spec,
                    run="the rehearsed run",
                    vouched=lambda sha256: False,
                ),
                trust_owner_code=self.options.trust_owner_code,
                known_code=self._known_code(connection),
                rollback_id=uuid.uuid4(),
                lock_budget_ms=self.options.lock_budget_ms,
                wait_ms=self.wait_ms,
                max_wait_ms=self.limits.max_wait_ms,
            )
            found = blockers(way.examine(connection))
            if found:
                raise RefusedError(found[0].message, found[0].remedy)
            way.fingerprint(connection, journal)
            way.undo(self.copy.connect, journal)
            _, rows = way.compare(connection, journal)
        assert way.catalog is not None
        ms = milliseconds(time.monotonic() - began)
        counted = [one for one in journal.executed if one.role == Role.HAND_SET]
        return Leg(
            name="down",
            ms=ms,
            locked_ms=journal.locked_ms,
            grows_ms=_growing(journal.executed, ms),
            locked_grows_ms=_growing(counted, journal.locked_ms),
            statements=tuple(journal.executed),
            proof=rows.content,
            says=f"{rows.verdict[0].upper()}{rows.verdict[1:]}.",
            checks=(way.catalog.check(),),
        )

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Say of a failure that it happened to the copy alone."""
        try:
            yield
        except (RunbookError, psycopg.Error) as error:
            what = error.message if isinstance(error, RunbookError) else what_failed(error)
            raise RefusedError(
                f"The rehearsal failed on its way {name}: {what}",
                "Nothing was changed but the scratch copy, which is gone. The migration itself "
                "would have failed so, too, unless the copy lacks something that it needs: the "
                "report lists how they differ.",
            ) from error


def _leg(name: str, began: float, applied: Applied, statements: tuple[Executed, ...]) -> Leg:
    ms = milliseconds(time.monotonic() - began)
    growing = _growing(statements, ms)
    under_lock = [one for one in statements if one.phase == Phase.ATOMIC]
    return Leg(
        name=name,
        ms=ms,
        locked_ms=applied.locked_ms,
        grows_ms=growing,
        locked_grows_ms=_growing(under_lock, applied.locked_ms),
        statements=statements,
        proof=applied.proof.content(),
        says=applied.proof.says,
        checks=(),
    )


def _growing(statements: Sequence[Executed], most: float) -> float:
    """Return how long the statements took whose time grows with the rows; batches that ran beside
    each other took no longer than the whole."""
    return min(most, sum(one.duration_ms for one in statements if one.grows))
