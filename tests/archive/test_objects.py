"""An object store keeps the archive's promises: whole bundles, one chain, whoever writes at once.

S3 is spoken by moto's server, on loopback.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner, Result

from runbook.archive.bundle import write_bundle
from runbook.archive.chain import ordered
from runbook.archive.manifest import NAME, Position, make_manifest, seal
from runbook.archive.objects import ObjectStore
from runbook.archive.spool import push, spool
from runbook.archive.store import ArchiveError, open_store, opened
from runbook.archive.verification import verify_archive, verify_bundle
from runbook.cli import main
from runbook.errors import UsageError
from tests.archive.archives import FILES, fill, key_pair, record
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.state import database_state

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
        (names[2], "removed"),
        (names[1], "removed"),
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


def test_a_verification_while_runs_are_archived_finds_no_fault(store: ObjectStore) -> None:
    def write(writer: int) -> None:
        for n in range(6):
            write_bundle(store, record(f"{writer}-{n}"), FILES)

    fill(store, 1)
    threads = [threading.Thread(target=write, args=[n]) for n in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert faults(store) == []
    assert len(verify_archive(store).bundles) == 13


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
    verdict = verify_archive(store)
    assert verdict.faults == ()
    # Past its claim it is in the chain, and the claim vouches for its files until it is completed.
    assert len(verdict.bundles) == (2 if place == 4 else 1)
    assert verdict.pending == (verdict.bundles[1:]) and len(verdict.unfinished) == (1 <= place <= 3)
    write_bundle(store, record("third", "2026-01-02T03:06:00.000Z"), FILES)
    runs = [store.bundles()[name].content["run_id"] for name in ordered(store.bundles())]
    # It was complete but for the manifest, which the next writer wrote.
    assert runs == (["run 0", "second", "third"] if place == 4 else ["run 0", "third"])
    left = verify_archive(store)
    assert left.faults == () and left.pending == ()
    assert left.unfinished == verdict.unfinished


def faults(store: ObjectStore, **options: Any) -> list[tuple[str, str, str]]:
    """Return what a verification says: bundle, kind, object."""
    return [(f.bundle, str(f.kind), f.object) for f in verify_archive(store, **options).faults]


def claim(number: int) -> str:
    return f".chain/{number:08d}"


def take_away_bundle(store: ObjectStore, name: str) -> None:
    store._fs.rm(f"{store._root}/{name}", recursive=True)


def read(store: ObjectStore, path: str) -> bytes:
    return bytes(store._fs.cat_file(f"{store._root}/{path}"))


def test_a_newest_bundle_that_was_removed_is_missed(store: ObjectStore) -> None:
    names = fill(store, 3)
    take_away_bundle(store, names[2])
    assert faults(store) == [(names[2], "removed", names[2])]
    for name in names[:2]:
        take_away_bundle(store, name)
    assert faults(store) == [(name, "removed", name) for name in names]


def test_a_newest_bundle_that_was_sealed_again_is_not_what_took_its_place(
    store: ObjectStore,
) -> None:
    names = fill(store, 2)
    content = json.loads(store.read(names[1], NAME))
    store._put(f"{names[1]}/{NAME}", seal({**content, "outcome": "refused"}, None))
    assert faults(store) == [(names[1], "altered", NAME)]


def test_a_manifest_that_was_removed_is_pending_only_where_nobody_followed(
    store: ObjectStore, tmp_path: Path
) -> None:
    key, public = key_pair(tmp_path)
    names = fill(store, 3, key)
    store._fs.rm_file(f"{store._root}/{names[1]}/{NAME}")
    assert (names[1], "removed", NAME) in faults(store)
    store._put(f"{names[1]}/{NAME}", json.loads(read(store, claim(2)))["manifest"].encode())
    store._fs.rm_file(f"{store._root}/{names[2]}/{NAME}")
    verdict = verify_archive(store, trusted=[public])
    assert verdict.faults == () and verdict.pending == (names[2],)
    assert verdict.signers[names[2]] == public
    alone = verify_bundle(store, names[2], trusted=[public])
    assert alone.faults == () and alone.pending == (names[2],) and alone.head == verdict.head
    store._put(f"{names[2]}/plan.sql", b"SELECT 2;")
    assert faults(store) == [(names[2], "altered", "plan.sql")]
    assert [f.object for f in verify_bundle(store, names[2]).faults] == ["plan.sql"]


def test_claims_that_were_removed_are_missed(store: ObjectStore) -> None:
    names = fill(store, 4)
    kept = read(store, claim(4))
    for number in (2, 3):
        store._fs.rm_file(f"{store._root}/{claim(number)}")
    unclaimed = [(name, "added", name) for name in names[1:3]]
    assert faults(store) == [("", "removed", claim(4)), *unclaimed]
    store._fs.rm_file(f"{store._root}/{claim(4)}")
    assert faults(store) == [(name, "added", name) for name in names[1:]]
    store._put(claim(4), kept)
    store._fs.rm_file(f"{store._root}/{claim(1)}")
    assert faults(store) == [("", "removed", claim(4))]


def test_a_sealed_bundle_without_a_claim_was_added(store: ObjectStore) -> None:
    fill(store, 2)
    position = Position(bundle="forged", previous=verify_archive(store).head)
    manifest = make_manifest(record("forged"), FILES, position, None)
    for name, data in {**FILES, NAME: manifest}.items():
        store._put(f"forged/{name}", data)
    assert faults(store) == [("forged", "added", "forged")]


def test_claims_that_changed_places_are_said(store: ObjectStore) -> None:
    fill(store, 3)
    second, third = read(store, claim(2)), read(store, claim(3))
    store._put(claim(2), third)
    store._put(claim(3), second)
    assert ("", "reordered", claim(3)) in faults(store)


DAMAGED: Mapping[str, Callable[[dict[str, str]], bytes]] = {
    "cut off": lambda claim: json.dumps(claim).encode()[:-9],
    "empty": lambda claim: b"",
    "no object": lambda claim: b"[]",
    "no text": lambda claim: json.dumps({**claim, "manifest": None}).encode(),
    "no manifest": lambda claim: json.dumps({**claim, "manifest": "{}"}).encode(),
    "an altered manifest": lambda claim: json.dumps(claim).replace("llamalog", "llamalox").encode(),
    "another bundle": lambda claim: json.dumps({**claim, "bundle": "../x"}).encode(),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_claim_is_named_before_a_run_begins(what: str, store: ObjectStore) -> None:
    names = fill(store, 2)
    whole = read(store, claim(2))
    store._put(claim(2), DAMAGED[what](json.loads(whole)))
    told = rf"the claim {claim(2)} is damaged, so the chain's end is unknown"
    for refused in (store.probe, lambda: fill(store, 1)):
        with pytest.raises(ArchiveError, match=told):
            refused()
    assert faults(store) == [("", "altered", claim(2)), (names[1], "added", names[1])]
    assert set(store.bundles()) == set(names)
    store._put(claim(2), whole)
    store.probe()
    assert faults(store) == []


def test_a_damaged_claim_leaves_the_database_untouched(
    bucket: str, sample_newest: Database
) -> None:
    store = ObjectStore(bucket)
    fill(store, 1)
    store._put(claim(1), b"{}")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("migrate", "--database-url", sample_newest.url, "--reports", bucket)
        assert database_state(connection) == before
    assert ended.returncode == 2 and f"the claim {claim(1)} is damaged" in ended.stderr


def test_what_else_lies_beside_the_claims_is_left_alone(store: ObjectStore) -> None:
    names = fill(store, 1)
    for name in ("note.txt", "0000002", "000000003", "²"):
        store._put(f".chain/{name}", b"{}")
    later = write_bundle(store, record("later", "2026-01-02T03:06:00.000Z"), FILES).name
    assert ordered(store.bundles()) == [*names, later] and faults(store) == []


def test_what_cannot_be_read_is_not_taken_for_missing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may be told to remove a bundle because a connection broke."""
    fill(store, 2)
    real = store._fs.cat

    def cat(paths: Any, on_error: str = "raise", **more: Any) -> Any:
        found = real(paths, on_error=on_error, **more)
        return {path: OSError("connection reset") for path in found}

    monkeypatch.setattr(store._fs, "cat", cat)
    for read_it in (store.bundles, store.contents):
        with pytest.raises(ArchiveError, match="connection reset"):
            read_it()


def test_a_run_is_not_archived_twice_where_only_its_manifest_was_not_written(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(bucket)
    fill(store, 1)
    real = ObjectStore._put

    def put(self: ObjectStore, path: str, data: bytes) -> None:
        if path.endswith(NAME):
            raise Died
        real(self, path, data)

    monkeypatch.setattr(ObjectStore, "_put", put)
    with pytest.raises(ArchiveError):
        write_bundle(store, record("late"), FILES)
    monkeypatch.undo()
    spool(record("late"), FILES, bucket, None)
    (told,) = push(None, None)
    assert told.bundle is not None and told.bundle.name in store.bundles()
    assert len(store.bundles()) == 2 and faults(store) == []


def test_the_chain_goes_on_where_an_archive_was_copied_without_its_claims(
    store: ObjectStore,
) -> None:
    names = fill(store, 2)
    store._fs.rm(f"{store._root}/.chain", recursive=True)
    assert faults(store) == []
    manifest = store.read(names[1], NAME)
    store._fs.rm_file(f"{store._root}/{names[1]}/{NAME}")
    assert faults(store) == [(names[1], "removed", NAME)]
    store._put(f"{names[1]}/{NAME}", manifest)
    later = write_bundle(store, record("later", "2026-01-02T03:06:00.000Z"), FILES).name
    assert ordered(store.bundles()) == [*names, later] and faults(store) == []
    take_away_bundle(store, later)
    assert faults(store) == [(later, "removed", later)]


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
        found = answer["bundles"]
        assert found == expected or [one["bundle"] for one in found] == expected


def test_the_command_tells_of_what_is_pending_or_unfinished_and_ends_with_0(bucket: str) -> None:
    store = ObjectStore(bucket)
    store._put("begun/report.html", b"<p>")
    told = verified(bucket)
    assert told.exit_code == 2 and "There is no bundle in" in told.stderr
    (name,) = fill(store, 1)
    store._fs.rm_file(f"{store._root}/{name}/{NAME}")
    told = verified(bucket)
    assert told.exit_code == 0 and "verified: 1 bundle as sealed" in told.stdout
    assert f"PENDING {name}\n  Its manifest so far stands in the chain's last" in told.stdout
    assert "UNFINISHED begun\n  Its upload did not come to its end: it is no evid" in told.stdout
    answer = json.loads(verified(bucket, "--json").stdout)
    assert answer["passed"] and answer["bundles"] == answer["pending"] == [name]
    assert answer["unfinished"] == ["begun"] and answer["faults"] == []
    assert verified(bucket, "begun").exit_code == 4  # by itself it passes for nothing
    take_away_bundle(store, name)
    told = verified(bucket)
    assert told.exit_code == 4 and f"REMOVED {name}\n" in told.stdout


def test_an_archive_is_not_taken_for_a_bundle(bucket: str) -> None:
    fill(ObjectStore(bucket), 1)
    told = verified("reports", bucket)
    assert told.exit_code == 2 and f"{bucket} is an archive, not a bundle." in told.stderr


def verified(reports: str, *arguments: str) -> Result:
    """Run `runbook archive verify`."""
    return CliRunner().invoke(main, ["archive", "verify", "--reports", reports, *arguments])
