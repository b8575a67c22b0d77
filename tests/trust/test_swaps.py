"""Who may write in the archive's folder swaps what is there: between two reads, and between two
writes."""

import ast
import hashlib
import json
import os
import shutil
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from runbook.archive import spool as spooling
from runbook.archive.approval import (
    Approved,
    approvals,
    approve,
    reviewed_plan,
    vouching_bundle,
)
from runbook.archive.bundle import write_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import NAME, Manifest, Position, read_manifest
from runbook.archive.objects import ObjectStore
from runbook.archive.spool import push, spool
from runbook.archive.store import ArchiveError, Contents, Only, Seal, Store, all_of_them
from runbook.errors import RefusedError
from runbook.facts import Server
from runbook.record import PlanRecord, Record
from tests.archive.archives import FILES, key_pair
from tests.report.records import record

SOURCE = Path(__file__).parents[2] / "src" / "runbook"
PLAN, FORGED = "ab" * 32, "cd" * 32
DATA, FORGED_DATA = b'{"sql": "SELECT 1"}', b'{"sql": "SELECT 2"}'
SERVER = Server(
    version_number=180004, server_version="18.4", name="shop", user="owner", host="h", port=5432,
    system_identifier="7712059211618559496", is_superuser=False, sees_others=True, read_only=False,
)  # fmt: skip


# -- between two reads -----------------------------------------------------------------------


class Swapped:
    """An archive in which each read of a file gives, in turn, what was sealed and what was laid
    there instead."""

    def __init__(self, store: Store, laid: Mapping[tuple[str, str], bytes], first: int) -> None:
        self._store = store
        self._laid = laid
        self._reads = Counter[tuple[str, str]]()
        self._first = first
        self.location = store.location

    def _turn(self, bundle: str, file: str, sealed: bytes) -> bytes:
        laid = self._laid.get((bundle, file), sealed)
        self._reads[bundle, file] += 1
        return laid if (self._reads[bundle, file] + self._first) % 2 else sealed

    def bundles(self, only: Only = all_of_them) -> dict[str, Manifest]:
        read = {
            name: read_manifest(self._turn(name, NAME, manifest.data))
            for name, manifest in self._store.bundles(only).items()
        }
        return {name: manifest for name, manifest in read.items() if manifest}

    def read(self, bundle: str, file: str) -> bytes:
        return self._turn(bundle, file, self._store.read(bundle, file))

    def digest(self, bundle: str, file: str) -> str:
        return hashlib.sha256(self.read(bundle, file)).hexdigest()

    def publish(self, stem: str, files: Mapping[str, bytes], seal: Seal) -> str:
        return self._store.publish(stem, files, seal)

    def probe(self) -> None:
        self._store.probe()

    def contents(self) -> Contents:
        return self._store.contents()

    def folders(self) -> Iterable[str]:
        return self._store.folders()

    def files(self, bundle: str) -> Mapping[str, int]:
        return self._store.files(bundle)

    def put_index(self, make: Callable[[], bytes]) -> None:
        self._store.put_index(make)


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "reports")
    return ObjectStore(f"memory://{tmp_path}/reports")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return key_pair(tmp_path)[0]


def run(step: str) -> Record:
    plan = PlanRecord(sha256=PLAN, mode="atomic", approved=None)
    return record(step=step, plan=plan)


def archived(store: Store, step: str, key: SigningKey) -> str:
    """Archive a run; return its bundle's name."""
    files = {"plan.sql": b"SELECT 1;\n", "plan.json": DATA}
    return write_bundle(store, run(step), files, key).name


def forged(store: Store, name: str) -> dict[tuple[str, str], bytes]:
    """Return a bundle's manifest with another plan, as its place and file."""
    return {(name, NAME): store.read(name, NAME).replace(PLAN.encode(), FORGED.encode())}


@pytest.fixture(params=[0, 1], ids=["forged first", "sealed first"])
def first(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_no_forged_manifest_vouches_for_a_plan(store: Store, key: SigningKey, first: int) -> None:
    name = archived(store, "migrate", key)
    swapped = Swapped(store, forged(store, name), first)
    for _ in range(4):
        assert not vouching_bundle(swapped, FORGED, "llamalog", SERVER, [key.public])
    assert vouching_bundle(store, PLAN, "llamalog", SERVER, [key.public]) == name


def test_no_forged_manifest_approves_a_plan(store: Store, key: SigningKey, first: int) -> None:
    review = archived(store, "review", key)
    made = approve(store, review, by="Ada", note="", key=key)
    assert made.plan.sha256 == PLAN
    swapped = Swapped(store, forged(store, made.name), first)
    for _ in range(4):
        found = list(approvals(swapped, [key.public]))
        assert not [one for one in found if isinstance(one, Approved) and one.plan != PLAN]
    (counted,) = approvals(store, [key.public], plan=PLAN)
    assert isinstance(counted, Approved)


def test_what_is_signed_as_approved_is_what_was_verified(
    store: Store, key: SigningKey, first: int
) -> None:
    review = archived(store, "review", key)
    sealed = store.bundles()[review].sha256
    swapped = Swapped(store, forged(store, review), first)
    for _ in range(4):
        try:
            made = approve(swapped, review, by="Ada", note="", key=key)
        except RefusedError as refused:
            assert "not as it was sealed" in refused.message
            continue
        manifest = store.bundles()[made.name]
        assert manifest.content["plan"]["sha256"] == made.plan.sha256 == PLAN
        assert manifest.content["plan"]["approval"]["review_sha256"] == sealed


def test_no_forged_file_is_taken_for_the_reviewed_plan(
    store: Store, key: SigningKey, first: int
) -> None:
    name = archived(store, "review", key)
    swapped = Swapped(store, {(name, "plan.json"): FORGED_DATA}, first)
    for _ in range(4):
        assert reviewed_plan(swapped, PLAN) in (None, json.loads(DATA))
    assert reviewed_plan(store, PLAN) == json.loads(DATA)


def test_what_is_delivered_and_signed_is_what_was_verified(
    key: SigningKey, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "reports")
    store.probe()
    kept = spool(run("migrate"), {"plan.json": DATA}, store.location, key)
    assert kept is not None
    laid = forged(FolderStore(kept.parent), kept.name)
    shared = Swapped(FolderStore(kept.parent), laid, first)
    monkeypatch.setattr(spooling, "FolderStore", lambda folder: shared)
    for _ in range(2):
        list(push(None, key))
    assert {m.content["plan"]["sha256"] for m in store.bundles().values()} <= {PLAN}


@pytest.mark.parametrize(
    "file", ["archive/approval.py", "notebook/approval.py", "notebook/recorded.py"]
)
def test_what_decides_on_trust_reads_no_bundle_itself(file: str) -> None:
    called = {
        node.func.attr
        for node in ast.walk(ast.parse((SOURCE / file).read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & {"bundles", "contents", "read", "digest", "read_bytes", "read_text"}


# -- between two writes ----------------------------------------------------------------------


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
    kept = spool(run("migrate"), FILES, target, None)
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
        assert spool(run("migrate"), FILES, target, None) == kept
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
