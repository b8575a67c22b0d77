"""Who may write in the archive swaps what is there between two reads of it."""

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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
from runbook.archive.manifest import NAME, Manifest, read_manifest
from runbook.archive.objects import ObjectStore
from runbook.archive.spool import push, spool
from runbook.archive.store import Contents, Only, Seal, Store, all_of_them
from runbook.errors import RefusedError
from runbook.facts import Server
from runbook.record import PlanRecord, Record
from tests.archive.archives import key_pair
from tests.report.records import record

SOURCE = Path(__file__).parents[2] / "src" / "runbook"
PLAN, FORGED = "ab" * 32, "cd" * 32
DATA, FORGED_DATA = b'{"sql": "SELECT 1"}', b'{"sql": "SELECT 2"}'
SERVER = Server(
    version_number=180004, server_version="18.4", name="shop", user="owner", host="h", port=5432,
    system_identifier="7712059211618559496", is_superuser=False, sees_others=True, read_only=False,
)  # fmt: skip


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
