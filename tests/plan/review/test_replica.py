"""The review on a streaming replica, and of a server that has one."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.catalog import read_catalog
from runbook.plan import Options, build_plan, review
from runbook.spec import load_spec
from tests.conftest import Database
from tests.own_server import own_database, replica

SPEC = load_spec("llamalog")

Pair = tuple[Database, psycopg.Connection[Any]]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary, and a connection to its replica."""
    with own_database() as database, replica(database) as standby:
        yield database, standby


def found_on(connection: psycopg.Connection[Any], *, reading: bool = False) -> dict[str, str]:
    """Return the findings: code → level."""
    catalog = read_catalog(connection, SPEC)
    return {one.code: one.level.value for one in review(SPEC, catalog, Options(), reading=reading)}


def test_a_review_on_a_replica_gives_the_primarys_plan(pair: Pair) -> None:
    database, standby = pair
    with database.connect() as primary:
        plans = {
            build_plan(SPEC, read_catalog(one, SPEC), Options()).sha256
            for one in (primary, standby)
        }
    assert len(plans) == 1
    assert found_on(standby)["read-only-server"] == "blocker"
    assert found_on(standby, reading=True)["read-only-server"] == "warning"


def test_the_command_reviews_a_replica_to_the_end(pair: Pair, tmp_path: Path) -> None:
    database, standby = pair
    url = database.url.replace(
        str(Path(database.value("SELECT current_setting('data_directory')")).name), "standby"
    )
    assert standby.info.host in url
    command = [sys.executable, "-m", "runbook", "review", "--database-url", url, "--json"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=180, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["outcome"] == "succeeded"


def test_a_primary_is_told_what_its_lock_does_to_replicas(pair: Pair) -> None:
    database, _ = pair
    with database.connect() as primary:
        found = found_on(primary)
    assert found["replica-conflicts"] == "note" and "no-synchronous-standby" not in found


def test_commits_that_would_wait_for_a_standby_that_is_not_there_forbid_the_run(
    pair: Pair,
) -> None:
    database, _ = pair
    with database.connect() as primary:
        waiting = "SELECT sync_state IN ('sync', 'quorum') FROM pg_stat_replication"
        for names, level in (("nobody", "blocker"), ("*", None)):
            primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            primary.execute("SELECT pg_reload_conf()")
            until = time.monotonic() + 30
            # The server's processes read their settings between two requests.
            while primary.execute(waiting.encode()).fetchone() != (names == "*",):
                assert time.monotonic() < until
            assert found_on(primary).get("no-synchronous-standby") == level
        primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
        primary.execute("SELECT pg_reload_conf()")
