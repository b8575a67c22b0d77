"""Whatever is killed, filled up or taken away, and whenever: the database is before or after, and
what the archive says of it is true."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from nbformat import NotebookNode

from runbook.archive.folder import FolderStore
from runbook.archive.spool import spooled
from runbook.archive.verification import verify_archive
from runbook.embedded import Server
from tests.cli.test_refusals import run
from tests.embedded.other_processes import postmaster_pid, wait_for
from tests.notebook.papermilling import notebook, papermill, read, with_cell
from tests.own_server import server_with_sample
from tests.state import database_state

KERNEL = "import os; os.kill(os.getpid(), 9)"
PAPERMILL = "import os, time; os.kill(os.getppid(), 9); time.sleep(1)"
# By `exec`, since a name that a cell leaves behind before the first counts as a parameter.
FILL = """
exec('''
with open("reports/.fill", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
''', {})
"""
TAKE_AWAY = """
import pathlib, shutil
shutil.rmtree("reports")
pathlib.Path("reports").write_text("in the way")
"""

CELLS = ("parameters", "target", "findings", "plan", "apply", "counts", "checks")
"""The cells before which a blow falls."""


def before_cells(*kept: str) -> pytest.MarkDecorator:
    """Return the test's parameters: these cells in every suite, the others in `make soak`."""
    soak = pytest.mark.soak
    cells = [pytest.param(cell, marks=() if cell in kept else soak) for cell in CELLS]
    return pytest.mark.parametrize("cell", cells)


AT_STATEMENT = """
def strike(text, *share, tell=run.tell, told=[]):
    tell(text, *share)
    told.append(text)
    if len(told) == {number}:
        {code}

run.tell = strike
"""

STATEMENTS = 42
"""At least as many as the plan has; a blow that never falls leaves a run that succeeds."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that may be killed, with a template of the sample."""
    with server_with_sample() as server:
        yield server


@pytest.fixture
def conninfo(server: Server) -> Iterator[str]:
    """A database of the test's own."""
    with server.lease():
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS target WITH (FORCE)")
            connection.execute("CREATE DATABASE target TEMPLATE template STRATEGY file_copy")
        yield server.conninfo("target")


def url(conninfo: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    return (
        f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    )


def state(conninfo: str) -> dict[str, Any]:
    with psycopg.connect(conninfo) as connection:
        return database_state(connection)


def no_run_is_left(conninfo: str) -> bool:
    """Return whether no session of a run is in the server any more."""
    with suppress(psycopg.OperationalError), psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'runbook %'"
        ).fetchone()
        return row == (0,)
    return False


def strike(
    source: Path, folder: Path, conninfo: str, before: dict[str, Any], mode: str = "atomic"
) -> subprocess.CompletedProcess[str]:
    """Run a notebook that does something terrible, and hold that everything is as it must be."""
    ended = papermill(source, "-p", "mode", mode, cwd=folder, env={"DATABASE_URL": url(conninfo)})
    wait_for(lambda: no_run_is_left(conninfo))
    is_after = run_of(conninfo) is not None
    if not is_after and unfinished(conninfo) is None:
        assert state(conninfo) == before
    assert_true(folder, run_of(conninfo))
    if (folder / "reports").is_file():
        (folder / "reports").unlink()
    stopped = unfinished(conninfo)
    again = run(
        *("migrate", "--database-url", url(conninfo), "--json", "--reports", "again"), cwd=folder
    )
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["outcome"] == ("already-applied" if is_after else "succeeded")
    if stopped:
        assert answer["run_id"] == stopped and f"resumed run {stopped}" in answer["message"]
    assert unfinished(conninfo) is None
    return ended


def unfinished(conninfo: str) -> str | None:
    """Return the online run that is to be resumed, if there is one."""
    with psycopg.connect(conninfo) as connection:
        there = connection.execute("SELECT to_regclass('runbook.online_run')").fetchone()
        if there == (None,):
            return None
        row = connection.execute(
            "SELECT run_id::text FROM runbook.online_run WHERE ended_at IS NULL"
        ).fetchone()
    return str(row[0]) if row else None


def run_of(conninfo: str) -> str | None:
    """Return the run that the database was migrated by, or None where it is as it was."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT to_regclass('llama_logs') IS NOT NULL, to_regclass('enrichment_logs') IS NULL"
        ).fetchone()
        assert row in ((True, True), (False, False))
        if row == (False, False):
            return None
        found = connection.execute("SELECT run_id::text FROM runbook.ledger").fetchall()
    assert len(found) == 1
    return str(found[0][0])


def assert_true(folder: Path, run_id: str | None) -> None:
    """Hold that every report, archived or spooled, says what is the case."""
    contents = [one.manifest.content for one in spooled()]
    if (folder / "reports").is_dir():
        store = FolderStore(folder / "reports")
        assert verify_archive(store).faults == ()
        contents += [manifest.content for manifest in store.bundles().values()]
    for content in contents:
        if content["outcome"] == "succeeded":
            assert content["run_id"] == run_id
        elif content["outcome"] in {"rolled-back", "refused"}:
            assert run_id is None
        elif content["outcome"] == "stopped":
            assert content["exit_code"] == 6 and "resume" in content["remedy"]
            assert run_id in {None, content["run_id"]}
        else:
            # What cannot be known is not claimed, what is known is said.
            assert content["outcome"] in {"error", "check-failed"}, content["outcome"]
            assert content["exit_code"] in {1, 4} and content["message"]
            if content["outcome"] == "check-failed":
                assert content["run_id"] == run_id
            elif "is as it was" in content["remedy"] + content["message"]:
                assert run_id is None or "either" in content["remedy"] + content["message"]


def cells_of(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def assert_told(folder: Path) -> None:
    """Hold that the output says which cell failed, and that none after it ran."""
    cells = cells_of(folder / "out.ipynb")
    statuses = [cell.metadata.papermill.status for cell in cells]
    failed = statuses.index("failed")
    assert set(statuses[:failed]) <= {"completed"}
    assert set(statuses[failed + 1 :]) <= {"pending"}
    assert any(output.output_type == "error" for output in cells[failed].outputs)
    assert read(folder / "out.ipynb").metadata.papermill.exception is True


@before_cells("apply")
def test_the_kernel_is_killed(cell: str, conninfo: str, tmp_path: Path) -> None:
    before = state(conninfo)
    source = with_cell(notebook("migrate"), cell, KERNEL, tmp_path / "struck.ipynb")
    ended = strike(source, tmp_path, conninfo, before)
    assert ended.returncode != 0
    assert_told(tmp_path)
    (path,) = tmp_path.glob("reports/*/report.html")
    assert "kernel" in path.read_text("utf-8").lower()


@before_cells("apply")
def test_papermill_is_killed(cell: str, conninfo: str, tmp_path: Path) -> None:
    before = state(conninfo)
    source = with_cell(notebook("migrate"), cell, PAPERMILL, tmp_path / "struck.ipynb")
    ended = strike(source, tmp_path, conninfo, before)
    assert ended.returncode == -9
    assert not list(tmp_path.glob("reports/*/manifest.json"))


@before_cells()
def test_postgresql_is_killed(cell: str, conninfo: str, server: Server, tmp_path: Path) -> None:
    before = state(conninfo)
    source = with_cell(notebook("migrate"), cell, kill_server(server), tmp_path / "struck.ipynb")
    with restarting(server):
        ended = strike(source, tmp_path, conninfo, before)
    # Before its first connection a run cannot tell that a server was started again meanwhile.
    if cell not in ("parameters", "target") or ended.returncode:
        assert ended.returncode != 0
        assert_told(tmp_path)


def kill_server(server: Server) -> str:
    return f"import os; os.kill({postmaster_pid(server)}, 9)"


@contextmanager
def restarting(server: Server) -> Iterator[None]:
    """Start a server again whenever it was killed."""
    import threading

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            if not server.is_running:
                time.sleep(1.5)  # an operator is slower than a run that only looks
                with suppress(Exception), server.lease():
                    pass

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with server.lease():
            pass


@before_cells("checks")
def test_the_archive_is_taken_away(cell: str, conninfo: str, tmp_path: Path) -> None:
    before = state(conninfo)
    source = with_cell(notebook("migrate"), cell, TAKE_AWAY, tmp_path / "struck.ipynb")
    ended = strike(source, tmp_path, conninfo, before)
    assert ended.returncode != 0 and "could not be archived" in ended.stderr
    (waiting,) = spooled()
    assert waiting.manifest.content["outcome"] == "succeeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder for reports on a disk of 100 kB."""
    folder = tmp_path / "reports"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@before_cells()
def test_the_disk_of_the_archive_is_full(
    cell: str, conninfo: str, small_disk: Path, tmp_path: Path
) -> None:
    before = state(conninfo)
    source = with_cell(notebook("migrate"), cell, FILL, tmp_path / "struck.ipynb")
    ended = strike(source, tmp_path, conninfo, before)
    assert ended.returncode != 0 and "No space left on device" in ended.stderr
    (waiting,) = spooled()
    assert waiting.manifest.content["outcome"] == "succeeded"
    assert not [path for path in small_disk.iterdir() if path.name.startswith("2")]


def test_a_disk_that_is_full_already_leaves_the_database_untouched(
    conninfo: str, small_disk: Path, tmp_path: Path
) -> None:
    before = state(conninfo)
    (small_disk / "fill").write_bytes(bytes(100 * 1024))
    ended = run("migrate", "--database-url", url(conninfo), cwd=tmp_path)
    assert ended.returncode == 2 and "No space left on device" in ended.stderr
    assert state(conninfo) == before


BLOWS: dict[str, Callable[[Server], str]] = {
    "kernel": lambda server: KERNEL,
    "papermill": lambda server: PAPERMILL,
    "postgresql": kill_server,
}


def at_statement(
    number: int, blow: str, server: Server, conninfo: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Let a blow fall just before a statement of the transaction runs."""
    before = state(conninfo)
    code = AT_STATEMENT.format(number=number, code=BLOWS[blow](server))
    source = with_cell(notebook("migrate"), "apply", code, folder / "struck.ipynb")
    if blow == "postgresql":
        with restarting(server):
            return strike(source, folder, conninfo, before)
    return strike(source, folder, conninfo, before)


@pytest.mark.soak
@pytest.mark.parametrize("blow", BLOWS)
@pytest.mark.parametrize("number", [40])
def test_a_blow_falls_in_the_middle_of_the_transaction(
    number: int, blow: str, server: Server, conninfo: str, tmp_path: Path
) -> None:
    assert at_statement(number, blow, server, conninfo, tmp_path).returncode != 0


@pytest.mark.soak
@pytest.mark.parametrize("blow", BLOWS)
@pytest.mark.parametrize("number", range(1, STATEMENTS + 1))
def test_a_blow_falls_before_any_statement(
    number: int, blow: str, server: Server, conninfo: str, tmp_path: Path
) -> None:
    at_statement(number, blow, server, conninfo, tmp_path)


WHEN_TOLD = """
def strike(text, *share, tell=run.tell):
    tell(text, *share)
    if text == {text!r}:
        {code}

run.tell = strike
"""

MOMENTS = [f"{phase}: begins" for phase in ("prepare", "expand", "backfill", "index", "cutover")]
MOMENTS.append("cutover: done")

ONLINE = {("postgresql", 4)}
"""Blows and moments of an online run that every suite takes."""


@pytest.mark.parametrize(
    ("blow", "moment"),
    [
        pytest.param(
            *(blow, moment),
            marks=() if (blow, MOMENTS.index(moment)) in ONLINE else pytest.mark.soak,
        )
        for blow in BLOWS
        for moment in MOMENTS
    ],
)
def test_a_blow_falls_in_an_online_run(
    blow: str, moment: str, server: Server, conninfo: str, tmp_path: Path
) -> None:
    before = state(conninfo)
    code = WHEN_TOLD.format(text=moment, code=BLOWS[blow](server))
    source = with_cell(notebook("migrate"), "apply", code, tmp_path / "struck.ipynb")
    if blow == "postgresql":
        with restarting(server):
            ended = strike(source, tmp_path, conninfo, before, "online")
    else:
        ended = strike(source, tmp_path, conninfo, before, "online")
    # Refused: the server is gone before anything was changed.
    codes = {"papermill": {-9}, "kernel": {4, 6}, "postgresql": {3, 4, 6}}
    assert ended.returncode in codes[blow], ended.stderr
