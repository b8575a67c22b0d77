"""An object store keeps the archive's promises: whole bundles, one chain, whoever writes at once.

S3 is spoken by moto's server, on loopback.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from runbook.archive.bundle import write_bundle
from runbook.archive.chain import ordered
from runbook.archive.manifest import NAME
from runbook.archive.objects import ObjectStore
from runbook.archive.store import ArchiveError, open_store, opened
from runbook.archive.verification import verify_archive, verify_bundle
from runbook.errors import UsageError
from tests.archive.archives import FILES, fill, key_pair, record

WRITER = """
import sys
from runbook.archive.bundle import write_bundle
from runbook.archive.objects import ObjectStore
from tests.archive.archives import FILES, record

store = ObjectStore(sys.argv[1])
for n in range(int(sys.argv[2])):
    write_bundle(store, record(f"{sys.argv[3]}-{n}"), FILES)
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place in an empty bucket, reached by the environment as in production."""
    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.nodeid)) % 10**12}"
    filesystem = fsspec.filesystem("s3", endpoint_url=s3, skip_instance_cache=True)
    filesystem.mkdir(name)
    return f"s3://{name}/audit/reports"


def environment(s3: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
    }


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty archive in each kind of object store."""
    if request.param == "s3":
        return ObjectStore(request.getfixturevalue("bucket"))
    return ObjectStore(f"memory://{abs(hash(request.node.nodeid))}/reports")


def test_bundles_are_archived_listed_and_verified(store: ObjectStore, tmp_path: Path) -> None:
    store.probe()
    key, public = key_pair(tmp_path)
    names = fill(store, 3, key)
    assert ordered(store.bundles()) == names
    verdict = verify_archive(store, trusted=[public])
    assert verdict.faults == () and verdict.bundles == tuple(names)
    for name in names:
        assert {file: store.read(name, file) for file in store.files(name)} == FILES
        assert verify_bundle(store, name).faults == ()
    page = store._fs.cat_file(f"{store._root}/index.html").decode()
    assert all(f"{name}/report.html" in page for name in names)


def test_runs_that_end_in_the_same_second_get_different_names(store: ObjectStore) -> None:
    names = [write_bundle(store, record(str(n)), FILES).name for n in range(3)]
    stem = "20260102T030405Z-llamalog-migrate-succeeded"
    assert names == [stem, f"{stem}-2", f"{stem}-3"] == ordered(store.bundles())


def test_what_is_altered_added_or_removed_is_said(store: ObjectStore) -> None:
    names = fill(store, 3)
    root = f"{store._root}/{names[1]}"
    store._fs.pipe_file(f"{root}/plan.sql", b"SELECT 2;\n" * 9)
    store._fs.pipe_file(f"{root}/extra/note.txt", b"hello")
    store._fs.rm_file(f"{root}/report.html")
    found = {(f.bundle, str(f.kind), f.object) for f in verify_archive(store).faults}
    assert found == {
        (names[1], "altered", "plan.sql"),
        (names[1], "added", "extra/note.txt"),
        (names[1], "removed", "report.html"),
    }
    store._fs.rm(f"{store._root}/{names[1]}", recursive=True)
    assert [(f.bundle, str(f.kind)) for f in verify_archive(store).faults] == [
        (names[2], "removed")
    ]


def test_threads_at_once_keep_the_chain_unbroken(store: ObjectStore) -> None:
    def write(writer: int) -> None:
        for n in range(3):
            write_bundle(store, record(f"{writer}-{n}"), FILES)

    threads = [threading.Thread(target=write, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify_archive(store).faults == () and len(store.bundles()) == 12


def test_processes_at_once_keep_the_chain_unbroken(bucket: str, s3: str) -> None:
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, bucket, "4", f"w{n}"], cwd=root)
        for n in range(3)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    store = ObjectStore(bucket)
    assert verify_archive(store).faults == ()
    runs = {manifest.content["run_id"] for manifest in store.bundles().values()}
    assert runs == {f"w{n}-{m}" for n in range(3) for m in range(4)}


class Died(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", range(5))
def test_a_writer_that_dies_leaves_a_whole_bundle_or_none(
    place: int, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three files, the claim, the manifest: it dies before each of them."""
    fill(store, 1)
    real, calls = store._fs.pipe_file, iter(range(100))

    def pipe_file(path: str, value: bytes, **more: Any) -> object:
        if next(calls) == place:
            raise Died
        return real(path, value, **more)

    monkeypatch.setattr(store._fs, "pipe_file", pipe_file)
    with pytest.raises(ArchiveError):
        write_bundle(store, record("second", "2026-01-02T03:05:00.000Z"), FILES)
    monkeypatch.undo()
    assert len(store.bundles()) == 1
    write_bundle(store, record("third", "2026-01-02T03:06:00.000Z"), FILES)
    runs = [store.bundles()[name].content["run_id"] for name in ordered(store.bundles())]
    # Past its claim the bundle was complete but for the manifest, which the next writer wrote.
    assert runs == (["run 0", "second", "third"] if place == 4 else ["run 0", "third"])
    faults = verify_archive(store).faults
    assert {(f.object, str(f.kind)) for f in faults} <= {(NAME, "removed")}
    assert len(faults) == (1 if 1 <= place <= 3 else 0)


def test_the_chain_goes_on_where_an_archive_was_copied_without_its_claims(
    store: ObjectStore,
) -> None:
    names = fill(store, 2)
    store._fs.rm(f"{store._root}/.chain", recursive=True)
    later = write_bundle(store, record("later", "2026-01-02T03:06:00.000Z"), FILES).name
    assert ordered(store.bundles()) == [*names, later] and verify_archive(store).faults == ()


REFUSED: Mapping[str, str] = {
    "nosuch://place/reports": "is not known",
    "s3://": "names no place",
    "s3://there-is-no-such-bucket/x": "cannot be written",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_place_that_cannot_be_written_is_wrong_usage(url: str, bucket: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[url]):
        opened(url)


def test_a_scheme_whose_package_is_missing_names_the_package() -> None:
    with pytest.raises(UsageError, match=r"migration-runbook\[gcs\]"):
        open_store("gs://bucket/reports")


def test_the_commands_work_on_it(bucket: str, s3: str, tmp_path: Path) -> None:
    names = fill(ObjectStore(bucket), 2)
    for command, expected in (("list", names), ("verify", names)):
        told = subprocess.run(
            [sys.executable, "-m", "runbook", "archive", command, "--reports", bucket, "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answer = json.loads(told.stdout)
        found = answer["bundles"] if command == "verify" else [one["bundle"] for one in answer]
        assert found == expected
