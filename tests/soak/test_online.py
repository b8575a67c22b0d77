"""The online run under kills, crashes and an application that writes: always the same end."""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.embedded import Server, wheel_binaries
from runbook.sample import create_indexes, create_schema, load_rows, scaled
from tests.conftest import DEBIAN, Database
from tests.embedded.other_processes import postmaster_pid
from tests.migrating import check
from tests.state import logical_state

pytestmark = pytest.mark.soak

ROWS = 30_000
ROOT = Path(__file__).resolve().parents[2]

MAJORS = [15, 18] if (DEBIAN / "postgres").exists() else [18]


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Path]]:
    """A server that keeps what it was given, with a template of many rows."""
    binaries = DEBIAN if request.param == 15 else wheel_binaries(request.param)
    with tempfile.TemporaryDirectory(prefix="runbook-soak-") as folder:
        Path(folder).chmod(0o755)
        server = Server(Path(folder) / "own", binaries=binaries).acquire()
        try:
            execute(server, "postgres", "CREATE DATABASE template")
            with psycopg.connect(server.conninfo("template"), autocommit=True) as connection:
                create_schema(connection, indexes=False)
                load_rows(connection, scaled(ROWS, None))
                create_indexes(connection)
            yield server, binaries
        finally:
            server.destroy()


@pytest.fixture(scope="module")
def wanted(server: tuple[Server, Path]) -> tuple[Any, float]:
    """The end state of an undisturbed run, and how many seconds it takes."""
    database = fresh(server)
    began = time.monotonic()
    finish(database)
    return logical_state(database), time.monotonic() - began


def execute(server: Server, name: str, statement: str) -> None:
    with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
        connection.execute(statement.encode())


def fresh(server: tuple[Server, Path]) -> Database:
    """Return a new copy of the template."""
    execute(server[0], "postgres", "DROP DATABASE IF EXISTS target WITH (FORCE)")
    execute(server[0], "postgres", "CREATE DATABASE target TEMPLATE template STRATEGY file_copy")
    return Database(
        name="target", conninfo=server[0].conninfo("target"), major=0, binaries=server[1]
    )


def start(database: Database, jobs: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.soak.process", database.conninfo, str(jobs)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str], after_s: float) -> None:
    """Kill a run after a while, if it has not ended by then."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    process.communicate()


def finish(database: Database) -> None:
    """Run again until it is done; a killed run's sessions may hold their locks a moment longer."""
    process = start(database)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def assert_end(database: Database, wanted: Any) -> None:
    assert logical_state(database) == wanted
    assert database.value("SELECT count(*) FROM runbook.ledger") == 1
    assert [one.id for one in check(database).values() if not one.passed] == []


@pytest.mark.parametrize("seed", range(60))
def test_a_run_killed_at_random_moments_is_resumed(
    seed: int, server: tuple[Server, Path], wanted: tuple[Any, float]
) -> None:
    """Once or several times, with one job or more."""
    chance = random.Random(seed)
    database = fresh(server)
    for _ in range(chance.choice([1, 1, 2, 3])):
        process = start(database, chance.choice([1, 3]))
        kill(process, chance.uniform(0.3, wanted[1]))
    finish(database)
    assert_end(database, wanted[0])


@pytest.mark.parametrize("seed", range(12))
def test_a_run_whose_server_is_stopped_at_once_is_resumed(
    seed: int, server: tuple[Server, Path], wanted: tuple[Any, float]
) -> None:
    """As `pg_ctl stop -m immediate` does: no session ends its work, and WAL is replayed."""
    chance = random.Random(1000 + seed)
    database = fresh(server)
    process = start(database, chance.choice([1, 3]))
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.uniform(0.5, wanted[1]))
    pid = postmaster_pid(server[0])
    assert pid is not None
    subprocess.run(["kill", f"-{signal.SIGQUIT}", str(pid)], check=True)
    _, said = process.communicate(timeout=120)
    while server[0].is_running:
        time.sleep(0.05)
    with server[0].lease():
        assert process.returncode in {0, 1, 5, 6}, said
        finish(database)
        assert_end(database, wanted[0])


def test_an_application_that_writes_loses_nothing_while_runs_are_killed(
    server: tuple[Server, Path],
) -> None:
    """It does not even notice: the view under the old name serves it after the cutover."""
    chance = random.Random(7)
    database = fresh(server)
    writers = subprocess.Popen(
        [sys.executable, "-m", "bench.writers", database.conninfo],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writers.stdout and writers.stdout.readline() == "ready\n"
    for _ in range(6):
        process = start(database, 2)
        kill(process, chance.uniform(0.5, 2))
    finish(database)
    time.sleep(1)
    told, _ = writers.communicate(timeout=120)
    answer = json.loads(told)
    assert answer["transactions"] > 200
    assert (answer["failed"], answer["failures"]) == (0, [])
    assert (answer["lost"], answer["losses"]) == (0, [])
    assert [one.id for one in check(database).values() if not one.passed] == []
