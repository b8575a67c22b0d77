"""Shortcuts of the tests through the stages: spec → catalog → plan → run."""

import uuid
from typing import Any

import pytest

from runbook.catalog import read_catalog
from runbook.errors import Stopped
from runbook.facts import Catalog
from runbook.plan import Options, Plan, build_plan, review
from runbook.run import Applied, apply_atomic, online
from runbook.run.online import AppliedOnline, Journal, Limits, TakenBack, apply_online
from runbook.spec import Spec, load_spec
from runbook.verify import verify
from runbook.vocabulary import CheckResult, Finding
from tests.conftest import Database

ATOMIC = Options(mode="atomic", lock_timeout_ms=300)


def catalog_of(database: Database, spec: Spec | None = None) -> Catalog:
    with database.session() as connection:
        return read_catalog(connection, spec or load_spec("llamalog"))


def findings_of(database: Database, spec: Spec | None = None) -> tuple[Finding, ...]:
    spec = spec or load_spec("llamalog")
    return review(spec, catalog_of(database, spec), ATOMIC)


def plan_of(database: Database, spec: Spec | None = None) -> Plan:
    spec = spec or load_spec("llamalog")
    return build_plan(spec, catalog_of(database, spec), ATOMIC)


def migrate(database: Database, spec: Spec | None = None, **more: Any) -> Applied:
    """Apply a spec; `plan` and `connect` may replace what the stages would give."""
    spec = spec or load_spec("llamalog")
    catalog = more.pop("catalog", None) or catalog_of(database, spec)
    return apply_atomic(
        more.pop("connect", database.session),
        spec,
        catalog,
        more.pop("plan", None) or build_plan(spec, catalog, ATOMIC),
        run_id=uuid.uuid4(),
        wait_ms=300,
        **more,
    )


ONLINE = Options(mode="online", lock_timeout_ms=100)
HASTY = Limits(max_wait_ms=2_000)
"""Gives up soon, so that tests end."""


def migrate_online(database: Database, spec: Spec | None = None, **more: Any) -> AppliedOnline:
    """Apply a spec online, or resume it."""
    spec = spec or load_spec("llamalog")
    catalog = more.pop("catalog", None) or catalog_of(database, spec)
    plan = (
        Plan.of(catalog.unfinished.plan)
        if catalog.unfinished
        else build_plan(spec, catalog, ONLINE)
    )
    return apply_online(
        more.pop("connect", database.session),
        spec,
        catalog,
        more.pop("plan", None) or plan,
        run_id=uuid.uuid4(),
        wait_ms=300,
        limits=more.pop("limits", HASTY),
        journal=more.pop("journal", None) or Journal(),
        **more,
    )


def stop_online(database: Database, phase: str = "index", spec: Spec | None = None) -> str:
    """Leave an online run that was interrupted when it reached a phase; return its id."""

    def tell(now: str, text: str, share: float) -> None:
        if now == phase and text == "begins":
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        migrate_online(database, spec, tell=tell)
    return str(
        database.value(
            "SELECT run_id::pg_catalog.text FROM runbook.online_run WHERE ended_at IS NULL"
        )
    )


def take_back(database: Database, spec: Spec | None = None) -> TakenBack:
    """Take back the unfinished run of a spec."""
    catalog = catalog_of(database, spec)
    assert catalog.unfinished is not None
    return online.take_back(
        database.session,
        catalog,
        Plan.of(catalog.unfinished.plan),
        wait_ms=300,
        max_wait_ms=HASTY.max_wait_ms,
        journal=Journal(),
    )


def check(database: Database, spec: Spec | None = None) -> dict[str, CheckResult]:
    """Ask the checks of an applied spec: id → result."""
    spec = spec or load_spec("llamalog")
    applied = catalog_of(database, spec).applied
    assert applied is not None
    with database.session() as connection:
        return {
            result.id: result
            for result in verify(connection, spec, applied, allow_models=True).results
        }
