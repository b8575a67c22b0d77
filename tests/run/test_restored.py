"""What a run leaves in a database survives dump and restore, a copy and pg_upgrade: it is known
there for what it is, goes on, and goes back."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runbook.embedded import Server, wheel_binaries
from tests.conftest import DEBIAN, MAJORS, SETTINGS, Cluster, Database
from tests.migrating import check
from tests.run.states import CASE, STATES, made, require_right, require_taken_back

TELLING = {
    "stopped at index", "stopped, partitioned", "applied online with a view", "rolled back",
}  # fmt: skip
ALL = [pytest.param(name, marks=() if name in TELLING else pytest.mark.soak) for name in STATES]
UNFINISHED = [
    pytest.param(name, marks=() if name == "stopped at cutover" else pytest.mark.soak)
    for name, state in STATES.items()
    if state.is_unfinished
]


def whole(database: Database) -> str:
    """Return a database's whole dump, ledger and all."""
    command = [str(database.binaries / "pg_dump"), f"--dbname={database.conninfo}"]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    # Newer versions put a random word into two lines.
    return "\n".join(line for line in text.splitlines() if "restrict " not in line)


def restored(database: Database, cluster: Cluster) -> Database:
    """Return a new database with a dump of another, as psql restores it, stopping at any error."""
    to = cluster.make()
    command = [str(database.binaries / "pg_dump"), f"--dbname={database.conninfo}"]
    dump = subprocess.run(command, capture_output=True, check=True).stdout
    psql = [
        *(str(database.binaries / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"),
        *("--output=/dev/null", f"--dbname={to.conninfo}"),
    ]
    # Other objects before: no OID of the first means the same in the second.
    to.execute("CREATE TABLE before_it (n int)", "DROP TABLE before_it")
    subprocess.run(psql, input=dump, capture_output=True, check=True)
    return to


@pytest.fixture
def tidy(newest: Cluster) -> Iterator[list[Database]]:
    """Databases to be dropped in the end."""
    databases: list[Database] = []
    yield databases
    for one in databases:
        newest.drop(one)


@pytest.mark.parametrize("name", ALL)
def test_a_dump_is_restored_and_all_goes_on(
    name: str, newest: Cluster, tidy: list[Database]
) -> None:
    database, before = made(name, newest)
    again = restored(database, newest)
    tidy += [database, before, again]
    assert whole(again) == whole(database)
    require_right(name, again, before, restored=True)


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_run_that_was_stopped_is_taken_back_where_its_dump_was_restored(
    name: str, newest: Cluster, tidy: list[Database]
) -> None:
    database, before = made(name, newest)
    again = restored(database, newest)
    tidy += [database, before, again]
    require_taken_back(name, again, before)


@pytest.mark.soak
@pytest.mark.parametrize("name", STATES)
def test_a_copy_goes_on(name: str, newest: Cluster, tidy: list[Database]) -> None:
    """A copy has every OID of the original."""
    database, before = made(name, newest)
    copy = newest.make(database.name)
    tidy += [database, before, copy]
    require_right(name, copy, before, restored=False)


def upgraded(old: Server, binaries: Path, major: int, folder: Path) -> Server:
    """Return a server of a newer version with all that an older one had, by pg_upgrade."""
    new = Server(folder / f"pg{major}", binaries=wheel_binaries(major), settings=SETTINGS).acquire()
    new.release()
    old.release()
    owner = new.directory.stat().st_uid
    work = folder / f"to{major}"
    work.mkdir()
    os.chown(work, owner, -1)
    ended = subprocess.run(
        [
            *(str(wheel_binaries(major) / "pg_upgrade"), "--username=postgres", "--no-sync"),
            *(f"--old-datadir={old.directory}", f"--new-datadir={new.directory}"),
            *(f"--old-bindir={binaries}", f"--new-bindir={wheel_binaries(major)}"),
            f"--socketdir={work}",
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=work,
        user=owner if os.geteuid() == 0 else None,
    )
    logs = "".join(one.read_text() for one in new.directory.glob("pg_upgrade_output.d/**/*.log"))
    assert ended.returncode == 0, ended.stdout + ended.stderr + logs
    return new.acquire()


@pytest.mark.soak
@pytest.mark.skipif(MAJORS[0] != 15, reason="PostgreSQL 15 is not installed")
def test_pg_upgrade_from_15_to_16_to_18() -> None:
    """Every state on 15; what is not at its end yet goes on 18, where NOT NULL has a name."""
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = Cluster(15, folder)
        pairs = {state: made(state, cluster) for state in STATES}
        for database in (one for pair in pairs.values() for one in pair):
            # Newer minor releases note this at columns; the wheel's older ones cannot restore it.
            database.execute(
                "UPDATE pg_attribute SET attoptions = NULL"
                " WHERE attoptions::text LIKE '{pg_attver=%'"
            )
        server = upgraded(cluster.server, DEBIAN, 16, folder)
        server = upgraded(server, wheel_binaries(16), 18, folder)
        try:
            for state, pair in pairs.items():
                database, before = (
                    replace(
                        one,
                        conninfo=server.conninfo(one.name),
                        major=18,
                        binaries=wheel_binaries(18),
                    )
                    for one in pair
                )
                require_right(state, database, before, restored=False)
        finally:
            server.destroy()


def test_rows_that_differ_are_not_taken_for_later_ones_in_a_restored_database(
    newest: Cluster, tidy: list[Database]
) -> None:
    database, before = made("applied", newest)
    database.execute("UPDATE issues SET state_2 = 'closed' WHERE id = 7")
    again = restored(database, newest)
    tidy += [database, before, again]
    assert check(database, CASE.spec)["rules"].passed
    assert not check(again, CASE.spec)["rules"].passed
