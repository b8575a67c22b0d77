"""Who may write in the archive's folder swaps what is there between two writes, or lays what is no
file."""

import ast
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from runbook.archive.folder import FolderStore
from runbook.archive.manifest import NAME, Position
from runbook.archive.spool import push, spool
from runbook.archive.store import ArchiveError
from tests.archive.archives import FILES, record

SOURCE = Path(__file__).parents[2] / "src" / "runbook"


class Attacker:
    """Another account that may write in the archive's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.victim = folder.parent / "victim"
        self.victim.write_text("precious", "utf-8")

    def swap(self, *names: str, owner: int = -1) -> None:
        """Rename the new bundle's folder, and lay another with links to the victim in its place."""
        (staging,) = self.folder.glob(".partial-*")
        staging.rename(staging.with_name(".away"))
        staging.mkdir()
        os.chown(staging, owner, -1)
        for name in names:
            (staging / name).symlink_to(self.victim)


class Slowly(dict[str, bytes]):
    """Files between whose writing something happens."""

    def __init__(self, files: Mapping[str, bytes], happens: Callable[[], None]) -> None:
        super().__init__(files)
        self._happens = happens

    def items(self) -> Iterator[tuple[str, bytes]]:  # type: ignore[override]
        for n, item in enumerate(super().items()):
            if n == 1:
                self._happens()
            yield item


@pytest.fixture
def attacker(tmp_path: Path) -> Attacker:
    reports = tmp_path / "reports"
    FolderStore(reports).probe()
    return Attacker(reports)


def _sealed(position: Position) -> bytes:
    return b"{}"


def test_no_file_of_a_bundle_is_written_through_a_link(attacker: Attacker) -> None:
    files = Slowly(FILES, lambda: attacker.swap(*FILES, NAME))
    with pytest.raises(ArchiveError, match=r"is now a folder of account .* not what was written"):
        FolderStore(attacker.folder).publish("stem", files, _sealed)
    assert attacker.victim.read_text("utf-8") == "precious"
    assert not (attacker.folder / "stem").exists()


def test_no_manifest_is_written_through_a_link(attacker: Attacker) -> None:
    def seal(position: Position) -> bytes:
        attacker.swap(NAME)
        return b"{}"

    with pytest.raises(ArchiveError, match="not what was written"):
        FolderStore(attacker.folder).publish("stem", FILES, seal)
    assert attacker.victim.read_text("utf-8") == "precious"
    assert not (attacker.folder / "stem").exists()


def test_what_was_laid_at_the_very_last_is_not_taken_for_the_bundle(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(before: str, after: str, **folders: int) -> None:
        monkeypatch.setattr(os, "rename", real)
        attacker.swap()
        real(before, after, **folders)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(ArchiveError, match=r"stem is now a folder of account .* not what was"):
        FolderStore(attacker.folder).publish("stem", FILES, _sealed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another account")
def test_nothing_is_written_into_a_folder_of_somebody_else(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def mkdir(path: str | Path, mode: int = 0o777, **place: int) -> None:
        real(path, mode, **place)
        if ".partial-" in str(path):
            monkeypatch.setattr(os, "mkdir", real)
            attacker.swap(owner=65534)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ArchiveError, match="is now a folder of account 65534, not of 0"):
        FolderStore(attacker.folder).publish("stem", FILES, _sealed)
    assert not [path for path in attacker.folder.rglob("*") if path.name in FILES]


def test_a_link_in_the_new_folders_place_is_not_opened(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir
    (elsewhere := attacker.folder.parent / "elsewhere").mkdir()

    def mkdir(path: str | Path, mode: int = 0o777, **place: int) -> None:
        real(path, mode, **place)
        if ".partial-" in str(path):
            (staging,) = attacker.folder.glob(".partial-*")
            staging.rename(staging.with_name(".away"))
            staging.symlink_to(elsewhere)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ArchiveError, match="is no longer the folder that was made"):
        FolderStore(attacker.folder).publish("stem", FILES, _sealed)
    assert list(elsewhere.iterdir()) == []


def test_what_was_laid_in_the_pages_place_is_said(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(before: str, after: str, **folders: int) -> None:
        (attacker.folder / before).unlink()
        (attacker.folder / before).symlink_to(attacker.victim)
        real(before, after, **folders)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(ArchiveError, match=r"index.html is now a link of account"):
        FolderStore(attacker.folder).put_index(lambda: b"<p>")
    assert attacker.victim.read_text("utf-8") == "precious"


def _lay(kind: str, path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(victim)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "socket"])
def test_only_a_file_is_locked(
    kind: str, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(attacker.folder)  # a socket's path is short
    _lay(kind, Path(".lock"), attacker.victim)
    with pytest.raises(ArchiveError, match=rf"\.lock is a {kind} of account \d+, and no file"):
        FolderStore(attacker.folder).publish("stem", FILES, _sealed)
    assert attacker.victim.read_text("utf-8") == "precious"
    assert not [path for path in attacker.folder.iterdir() if path.name != ".lock"]


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_the_note_of_the_last_bundle_is_read_from_a_file_alone(
    kind: str, attacker: Attacker
) -> None:
    _lay(kind, attacker.folder / ".head", attacker.victim)
    FolderStore(attacker.folder).publish("stem", FILES, _sealed)
    assert stat.S_ISREG((attacker.folder / ".head").lstat().st_mode)
    assert attacker.victim.read_text("utf-8") == "precious"


@pytest.mark.parametrize("place", [".push", "{name}.target"])
def test_nothing_in_the_spool_is_written_through_a_link(place: str, attacker: Attacker) -> None:
    target = str(attacker.folder)
    kept = spool(record("late"), FILES, target, None)
    assert kept is not None
    name = kept.name
    if place != ".push":
        shutil.rmtree(kept)
    link = kept.parent / place.format(name=name)
    link.unlink(missing_ok=True)
    link.symlink_to(attacker.victim)
    if place == ".push":
        (told,) = push(None, None)
        assert told.bundle is None and "is a link of account" in told.problem
    else:
        assert spool(record("late"), FILES, target, None) == kept
        assert link.read_text("utf-8") == target and not link.is_symlink()
    assert attacker.victim.read_text("utf-8") == "precious"


def test_files_are_written_by_one_module() -> None:
    """What opens by a name writes where that leads; an embedded server's folder is its own."""
    writing = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and _writes(node)
    }
    assert {path for path in writing if not path.startswith("embedded/")} == set()


def _writes(call: ast.Call) -> bool:
    """Return whether a call opens a file by its name to write into it."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    modes = [one.value for one in given if isinstance(one, ast.Constant)]
    is_open = name == "open" and any(mode in ("w", "wb", "a", "ab", "r+", "w+") for mode in modes)
    return is_open or name in ("write_text", "write_bytes")
