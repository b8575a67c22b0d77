"""A bundle is written whole or not at all, and the chain of manifests holds."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook.archive import folder as folder_store
from runbook.archive.bundle import write_bundle
from runbook.archive.chain import head
from runbook.archive.folder import FolderStore
from runbook.archive.store import ArchiveError
from runbook.cli import main
from runbook.errors import Outcome
from runbook.record import Record, now
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.state import database_state

FILES = {"report.html": b"<p>\xc3\xa9</p>", "report.ipynb": b"{}", "plan.sql": b"SELECT 1;\n" * 99}

WRITER = """
import sys
from runbook.archive.bundle import write_bundle
from runbook.archive.store import open_store
from runbook.errors import Outcome
from runbook.record import Record, now

store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[2])):
    record = Record(run_id=f"{sys.argv[3]}-{n}", migration="m", step="migrate", started_at=now())
    record.end(Outcome.SUCCEEDED, "Done.")
    names = ("report.html", "report.ipynb", "plan.sql")
    write_bundle(store, record, dict.fromkeys(names, bytes(int(sys.argv[4]))))
"""


def record(name: str = "run", finished_at: str | None = None) -> Record:
    """Return the record of a run that ended well."""
    made = Record(run_id=name, migration="llamalog", step="migrate", started_at=now())
    made.end(Outcome.SUCCEEDED, "Done.")
    made.finished_at = finished_at or made.finished_at
    return made


def write(folder: Path, made: Record, files: Mapping[str, bytes]) -> Path:
    """Archive a bundle in a folder; return the bundle's folder."""
    return Path(write_bundle(FolderStore(folder), made, files).location)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def left_over(folder: Path) -> set[str]:
    """Return what is hidden in a folder, without the lock and the note of the last bundle."""
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    return hidden - {".lock", ".head"}


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every manifest by its own SHA-256."""
    found = [path.read_bytes() for path in folder.glob("*/manifest.json")]
    return {hashlib.sha256(content).hexdigest(): json.loads(content) for content in found}


def chain(folder: Path) -> list[str]:
    """Return the runs' names from the first to the last, along the hashes; all are in it."""
    by_previous: dict[str | None, tuple[str, str]] = {}
    for own, content in manifests(folder).items():
        previous = content["previous_manifest_sha256"]
        assert previous not in by_previous, "two manifests follow the same one"
        by_previous[previous] = (own, content["run_id"])
    names, head = [], None
    while head in by_previous:
        head, name = by_previous[head]
        names.append(name)
    assert len(names) == len(by_previous), "the chain is broken"
    return names


def test_the_manifest_has_the_size_and_hash_of_every_other_file(tmp_path: Path) -> None:
    bundle = write(tmp_path, record(), FILES)
    listed = json.loads((bundle / "manifest.json").read_text("utf-8"))["files"]
    assert listed == [
        {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(bundle.iterdir())
        if path.name != "manifest.json"
    ]
    assert {path.name: path.read_bytes() for path in bundle.iterdir()}.items() > FILES.items()


def test_a_bundle_can_be_read_by_others(tmp_path: Path) -> None:
    bundle = write(tmp_path, record(), FILES)
    assert bundle.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("place", range(len(FILES) + 2))
def test_a_failure_before_all_is_on_disk_leaves_nothing(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each forcing to disk in turn fails: three files, the manifest, the folder."""
    first = write(tmp_path, record("first"), FILES)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _fail_at(place, monkeypatch)
    with pytest.raises(ArchiveError, match="No space left"):
        write(tmp_path, record("second"), FILES)
    monkeypatch.undo()
    assert visible(tmp_path) == {first.name, "index.html"} and left_over(tmp_path) == set()
    assert before == {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("place", [len(FILES) + 2, len(FILES) + 3], ids=["folder", "index"])
def test_a_failure_after_that_leaves_a_whole_bundle(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, record("first"), FILES)
    _fail_at(place, monkeypatch)
    write(tmp_path, record("second"), FILES)
    monkeypatch.undo()
    assert chain(tmp_path) == ["first", "second"]
    for bundle in tmp_path.glob("2*"):
        assert {path.name for path in bundle.iterdir()} == {*FILES, "manifest.json"}
    write(tmp_path, record("third"), FILES)
    assert chain(tmp_path) == ["first", "second", "third"] and left_over(tmp_path) == set()
    assert _linked(tmp_path) >= visible(tmp_path) - {"index.html"}


def _fail_at(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one of the calls of `os.fsync` fail, as on a disk that is full."""
    real, calls = os.fsync, iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(calls) == place:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_that_the_system_does_not_take_leaves_nothing(tmp_path: Path) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)){WRITER}"
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path), "1", "run", "9000"],
        input="\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1 and "File too large" in ended.stderr
    assert visible(tmp_path) == set() and left_over(tmp_path) == set()


def test_eight_processes_at_once_keep_the_chain_unbroken(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), "5", f"writer{n}", "100"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert sorted(chain(tmp_path)) == sorted(f"writer{n}-{m}" for n in range(8) for m in range(5))
    assert len(_linked(tmp_path)) == 40 and left_over(tmp_path) == set()


OTHER_ACCOUNT = """
import os, sys
from runbook.archive.bundle import write_bundle
from runbook.archive.folder import FolderStore
from tests.archive.archives import FILES, record

store, theirs = FolderStore(sys.argv[1]), record("theirs")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print("ready", flush=True)
write_bundle(store, theirs, FILES)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another account")
def test_accounts_that_share_a_folder_take_turns_by_a_lock_that_one_of_them_may_only_read() -> None:
    with tempfile.TemporaryDirectory(prefix="runbook-tests-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        write(folder, record("ours"), FILES)
        lock = folder / ".lock"
        lock.chmod(0o444)
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            other = subprocess.Popen(
                [sys.executable, "-c", OTHER_ACCOUNT, name],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert other.stdout and other.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(timeout=0.5)
            assert chain(folder) == ["ours"]
        other.communicate(timeout=60)
        assert other.returncode == 0 and chain(folder) == ["ours", "theirs"]
        assert lock.stat().st_uid == 0 and left_over(folder) == set()


def test_runs_that_end_in_the_same_second_get_different_names(tmp_path: Path) -> None:
    moment = "2026-01-02T03:04:05.678Z"
    written = [write(tmp_path, record(str(n), moment), FILES).name for n in range(3)]
    stem = "20260102T030405Z-llamalog-migrate-succeeded"
    assert written == [stem, f"{stem}-2", f"{stem}-3"]
    assert chain(tmp_path) == ["0", "1", "2"]


def test_the_chain_goes_on_in_a_copy_that_lost_its_times(tmp_path: Path) -> None:
    """Git, object stores and plain copies keep contents alone."""
    for n in range(4):
        write(tmp_path, record(str(n), f"2026-01-02T03:04:0{n}.000Z"), FILES)
    for n, path in enumerate(sorted(tmp_path.glob("*/manifest.json"))):
        os.utime(path, (100 - n, 100 - n))
    write(tmp_path, record("4", "2026-01-02T03:04:09.000Z"), FILES)
    assert chain(tmp_path) == ["0", "1", "2", "3", "4"]
    assert _order(tmp_path) == ["9", "3", "2", "1", "0"]


def _order(folder: Path) -> list[str]:
    """Return the last digit of the time in each line of the index, from the top."""
    return re.findall(r"<tr><td>2026-01-02 03:04:0(\d)", (folder / "index.html").read_text("utf-8"))


def _linked(folder: Path) -> set[str]:
    """Return the folders that the index links to; every link must lead to a file."""
    page = (folder / "index.html").read_text("utf-8")
    links = re.findall(r"href='([^']+)'", page)
    assert all((folder / link).is_file() for link in links)
    return {link.partition("/")[0] for link in links}


def test_the_index_lists_every_bundle_the_newest_first(tmp_path: Path) -> None:
    written = set()
    for n in range(5):
        made = record(str(n), f"2026-01-02T03:04:0{n}.000Z")
        written.add(write(tmp_path, made, FILES).name)
    assert _order(tmp_path) == ["4", "3", "2", "1", "0"]
    assert _linked(tmp_path) == written == visible(tmp_path) - {"index.html"}


def test_what_others_put_into_the_folder_does_not_stop_a_bundle(tmp_path: Path) -> None:
    write(tmp_path, record("first"), FILES)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "manifest.json").write_text('{"name": "a web application"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    write(tmp_path, record("second"), FILES)
    shutil.rmtree(tmp_path / "theirs")
    shutil.rmtree(tmp_path / "broken")
    assert chain(tmp_path) == ["first", "second"]


ODD: tuple[Any, ...] = (None, True, -1.5, 7, "x", "\ud800", [], [None, 7], {}, {"name": []}, [[{}]])
"""What may stand anywhere in JSON, half of a character among it."""


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_manifest_with_odd_values_stops_neither_the_page_nor_the_list_nor_a_run(
    odd: Any, tmp_path: Path
) -> None:
    reports = tmp_path / "reports"
    write(reports, record("first"), FILES)
    names = set(record().model_dump()) | {"files", "seal", "signature", "previous_manifest_sha256"}
    inside = {"counts": "after", "database": "port", "files": "name", "signature": "public_key"}
    for kind, content in {
        "bare": {},
        "odd": dict.fromkeys(names, odd),
        "deep": {name: [{key: odd}] if name == "files" else {key: odd}
                 for name, key in inside.items()},
        "counted": {"counts": {"after": {"total": odd}}, "checks": [{"passed": odd}]},
    }.items():  # fmt: skip
        (reports / kind).mkdir()
        manifest = {"schema": "runbook.manifest/1", **content}
        (reports / kind / "manifest.json").write_text(json.dumps(manifest))
    second = write(reports, record("second"), FILES)
    linked = _linked(reports)
    assert linked >= {"bare", "odd", "deep", "counted", second.name} and len(linked) == 6
    for arguments in ((), ("--json",)):
        told = CliRunner().invoke(main, ["archive", "list", *arguments])
        assert told.exit_code == 0, told.output
        assert all(name in told.stdout for name in linked)
    assert CliRunner().invoke(main, ["archive", "verify"]).exit_code == 4


def test_a_folder_that_cannot_be_written_is_refused_before_the_database_is_touched(
    sample_newest: Database, tmp_path: Path
) -> None:
    (tmp_path / "reports").write_text("a file")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("migrate", "--database-url", sample_newest.url, "--json")
        assert database_state(connection) == before
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["message"].startswith(f"Reports cannot be written into "
                                                          f"{tmp_path / 'reports'}: ")  # fmt: skip
    assert "Traceback" not in ended.stderr and (tmp_path / "reports").read_text() == "a file"
    # Nor is a server asked: this one would be refused with 3.
    ended = run("migrate", "--database-url", "postgresql://nobody@127.0.0.1:1/nothing")
    assert ended.returncode == 2 and "Reports cannot be written" in ended.stderr


def _nothing(folder: Path) -> None:
    """Leave the note as it is."""


def _remove_note(folder: Path) -> None:
    (folder / ".head").unlink()


def _break_note(folder: Path) -> None:
    (folder / ".head").write_text('{"bundle": []')


def _empty_note(folder: Path) -> None:
    (folder / ".head").write_text("{}")


def _remove_last(folder: Path) -> None:
    shutil.rmtree(max(path for path in folder.iterdir() if path.is_dir()))


def _alter_last(folder: Path) -> None:
    last = max(path for path in folder.iterdir() if path.is_dir()) / "manifest.json"
    last.write_bytes(last.read_bytes() + b" ")


@pytest.mark.parametrize(
    "meddle", [_nothing, _remove_note, _break_note, _empty_note, _remove_last, _alter_last]
)
def test_the_note_of_the_last_bundle_is_believed_only_where_it_is_true(
    meddle: Callable[[Path], None], tmp_path: Path
) -> None:
    for name in ("first", "second", "third"):
        write(tmp_path, record(name), FILES)
    meddle(tmp_path)
    found = FolderStore(tmp_path).bundles()
    expected = head(found)
    made = write(tmp_path, record("fourth"), FILES)
    content = json.loads((made / "manifest.json").read_bytes())
    assert content["previous_manifest_sha256"] == expected


def test_the_manifests_of_a_long_archive_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third"):
        write(tmp_path, record(name), FILES)
    read: list[Path] = []
    real = folder_store._read

    def noting(path: Path) -> bytes:
        read.append(path)
        return real(path)

    monkeypatch.setattr(folder_store, "_read", noting)
    write_bundle(FolderStore(tmp_path), record("fourth"), FILES, lists=False)
    assert len(read) == 1
