"""The review on databases as they are found in the wild: exactly the findings of the table."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from runbook.catalog import read_catalog
from runbook.plan import Options, review
from runbook.plan.review import activity
from runbook.spec import Spec, load_spec
from runbook.vocabulary import Finding
from tests.conftest import NEWEST, Cluster, Database, cluster_of
from tests.operations.test_specs import spec_of
from tests.plan.review.prepared import LLAMALOG, PREPARED, Prepared


@pytest.fixture(params=NEWEST, ids=lambda major: f"pg{major}")
def server(request: pytest.FixtureRequest, clusters: dict[int, Cluster]) -> Cluster:
    return cluster_of(clusters, request.param)


@pytest.mark.parametrize("case", PREPARED.values(), ids=PREPARED)
def test_a_prepared_database_gives_its_findings_and_no_others(
    case: Prepared, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (case.held and case.finds) or case.busy:
        # Nobody waits a minute here: what is old is a matter of degree.
        monkeypatch.setattr(activity, "OLD_S", 0.0)
        monkeypatch.setattr(activity, "IDLE_S", 0.0)
    with prepared(case, server) as (spec, database, role):
        found = findings(case, spec, database, role)
    assert sorted(f"{one.level.value[0].upper()} {one.code}" for one in found) == sorted(case.finds)
    if case.says:
        assert case.says in found[0].message
    assert all(one.remedy.endswith(".") and one.why.endswith(".") for one in found)


def findings(
    case: Prepared, spec: Spec, database: Database, role: str | None
) -> tuple[Finding, ...]:
    options = f"-c role={role}" if role else ""
    with database.connect(options=options) as connection:
        catalog = read_catalog(connection, spec)
    # Whether the disk of the machine that runs the tests is full is not at stake.
    if catalog.surroundings:
        around = replace(catalog.surroundings, free_bytes=1 << 50)
        catalog = replace(catalog, surroundings=around)
    return review(spec, catalog, Options(**case.options))


@contextmanager
def prepared(case: Prepared, server: Cluster) -> Iterator[tuple[Spec, Database, str | None]]:
    """Yield a prepared database, and the role that reviews it; then take all of it away."""
    own = f"own_{uuid.uuid4().hex[:12]}"
    spec = load_spec("llamalog") if case.spec is LLAMALOG else spec_of(case.spec)
    database = server.sample() if case.spec is LLAMALOG else server.make()
    try:
        if case.spec is not LLAMALOG:
            database.execute(*case.tickets)
        database.execute(*(one.replace("{role}", own) for one in case.made))
        with at_work(database, case):
            yield spec, database, own if case.role else None
    finally:
        database.execute(*(one.replace("{role}", own) for one in case.undone))
        server.drop(database)
        if case.role:
            server.execute(f"DROP ROLE IF EXISTS {own}")


@contextmanager
def at_work(database: Database, case: Prepared) -> Iterator[None]:
    """Have another session in a transaction, or at work on a statement, meanwhile."""
    with psycopg.connect(database.conninfo) as other:
        for statement in case.held:
            other.execute(statement.encode())
        if case.busy:
            _begin(other, database, case.busy)
        yield
        other.cancel()
        other.close()


def _begin(other: psycopg.Connection[Any], database: Database, statement: str) -> None:
    """Send a statement, and return once the server is at work on it."""
    other.pgconn.send_query(statement.encode())
    question = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {other.info.backend_pid}"
    until = time.monotonic() + 30
    while not database.value(f"{question} AND state = 'active' AND wait_event = 'PgSleep'"):
        assert time.monotonic() < until
