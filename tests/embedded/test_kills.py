"""What survives which kill: the server, its owner, the making of its data, a forked child."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from runbook.embedded import Server, wheel_binaries
from runbook.embedded.account import choose_account
from runbook.errors import EmbeddedError
from tests.embedded.other_processes import Holder, ask, exists, postmaster_pid, run, wait_for

MakeServer = Callable[..., Server]
MakeHolder = Callable[[Path], Holder]


def test_a_killed_server_is_started_again_with_its_data(made_server: MakeServer) -> None:
    server = made_server()
    with server.lease():
        run(server, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
        killed = postmaster_pid(server)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: not server.is_running)
        with server.lease():
            assert ask(server, "SELECT answer FROM kept") == 42
            assert postmaster_pid(server) != killed


def test_a_start_waits_for_the_busy_orphan_of_a_killed_server(made_server: MakeServer) -> None:
    server = made_server()
    busy = "SELECT count(*) FROM generate_series(1, 6000000) AS busy"

    def work() -> None:
        # It may answer before it sees that the server is gone.
        with suppress(psycopg.OperationalError):
            ask(server, busy)

    with server.lease():
        thread = threading.Thread(target=work)
        thread.start()
        find = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%AS busy' AND state = 'active'"
        wait_for(lambda: ask(server, f"{find} AND pid <> pg_backend_pid()"))
        os.kill(postmaster_pid(server), signal.SIGKILL)
        wait_for(lambda: not server.is_running)
        with server.lease():
            assert ask(server, "SELECT 1") == 1
        thread.join()
    log = (server.directory / "server.log").read_text()
    assert "pre-existing shared memory block" in log


def test_a_process_number_that_passed_to_another_program_does_not_hinder_a_start(
    made_server: MakeServer,
) -> None:
    server = made_server()
    with server.lease():
        killed = postmaster_pid(server)
        account = choose_account(server.directory, wheel_binaries(18))
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: not server.is_running)
        with account.popen(["/bin/sleep", "60"]) as stranger:
            try:
                for path in server.directory.glob("*postmaster.pid"):
                    path.write_text(path.read_text().replace(str(killed), str(stranger.pid), 1))
                for path in server.directory.glob(".s.PGSQL.*.lock"):
                    path.write_text(path.read_text().replace(str(killed), str(stranger.pid), 1))
                with server.lease():
                    assert ask(server, "SELECT 1") == 1
                assert stranger.poll() is None
            finally:
                stranger.kill()


def test_a_server_outlives_its_killed_owner_and_the_next_one_stops_it(
    made_server: MakeServer, make_holder: MakeHolder
) -> None:
    server = made_server()
    owner = make_holder(server.directory)
    pid = owner.postmaster_pid()
    owner.kill()
    assert exists(pid)
    with server.lease():
        assert postmaster_pid(server) == pid
    wait_for(lambda: not exists(pid))


def test_a_killed_making_is_never_used_and_is_removed_by_the_next_one(
    make_server: MakeServer, make_holder: MakeHolder, tmp_path: Path
) -> None:
    server = make_server()
    owner = make_holder(server.directory)
    wait_for(lambda: list(tmp_path.glob("data.partial-*/base")))
    owner.kill()
    assert not server.directory.exists()
    with server.lease():
        assert ask(server, "SELECT 1") == 1
    assert not list(tmp_path.glob("data.partial-*"))


def test_a_killed_initdb_leaves_nothing_and_is_reported(
    make_server: MakeServer, tmp_path: Path
) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, script in {
        "postgres": "echo 'postgres (PostgreSQL) 18.0'",
        "initdb": 'for a in "$@"; do case $a in --pgdata=*) mkdir "${a#*=}/base";; esac; done; '
        "echo half-way; kill -9 $$",
    }.items():
        (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
        (binaries / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match="half-way"):
        Server(tmp_path / "data", binaries=binaries).acquire()
    assert [path.name for path in tmp_path.glob("data*") if path.is_dir()] == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_server_inherits_no_lock(made_server: MakeServer) -> None:
    with made_server().lease() as server:
        folder = Path(f"/proc/{postmaster_pid(server)}/fd")
        held = [str(path.readlink()) for path in folder.iterdir()]
    assert not [path for path in held if path.endswith((".lock", ".lease"))]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_neither_keeps_nor_ends_its_parents_lease(
    made_server: MakeServer,
) -> None:
    server = made_server()
    server.acquire()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        server.release()
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        assert ask(server, "SELECT 1") == 1
        server.release()
        assert not server.is_running
    finally:
        os.close(writer)
        assert os.waitpid(child, 0)[1] == 0
        os.close(reader)


def test_the_exit_of_a_process_gives_its_leases_back(made_server: MakeServer) -> None:
    server = made_server()
    script = (
        "import sys; from pathlib import Path; from runbook.embedded import Server;"
        "s = Server(Path(sys.argv[1])); s.acquire(); s.acquire(); print(s.is_running)"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(server.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not server.is_running
