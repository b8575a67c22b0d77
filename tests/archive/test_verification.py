"""Whatever is done to an archive after it was sealed is said, with the file it was done to."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook.archive.bundle import write_bundle
from runbook.archive.chain import ordered
from runbook.archive.folder import FolderStore
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import NAME, Position, make_manifest, read_manifest, seal
from runbook.archive.verification import Fault, Kind, verify_archive, verify_bundle
from tests.archive.archives import FILES, archive, copy, key_pair, record

FLIPS = 1000


def faults(store: FolderStore, **options: Any) -> list[tuple[str, str, str]]:
    """Return what a verification says: bundle, kind, object."""
    return [_brief(fault) for fault in verify_archive(store, **options).faults]


def _brief(fault: Fault) -> tuple[str, str, str]:
    return fault.bundle, str(fault.kind), fault.object


@pytest.fixture
def sealed(tmp_path: Path) -> FolderStore:
    """An archive of three unsigned bundles."""
    return archive(tmp_path / "archive")


def test_an_archive_as_it_was_sealed_has_no_faults(sealed: FolderStore) -> None:
    verdict = verify_archive(sealed)
    assert verdict.faults == () and len(verdict.bundles) == 3
    assert verdict.head == hashlib.sha256(sealed.read(verdict.bundles[-1], NAME)).hexdigest()
    first = sealed.read(verdict.bundles[0], NAME)
    assert verdict.first == hashlib.sha256(first).hexdigest()
    for name in verdict.bundles:
        assert verify_bundle(sealed, name).faults == ()


def test_every_manifest_is_read_once(sealed: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = os.open, []

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        read.append(Path(path).name)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)
    assert faults(sealed) == []
    assert read.count(NAME) == 3


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
def test_a_thousand_random_changes_of_one_byte_are_all_detected(
    is_signed: bool, tmp_path: Path
) -> None:
    """Anywhere in a bundle, the newest manifest and its signature among it."""
    key = key_pair(tmp_path)[0] if is_signed else None
    store = archive(tmp_path / "archive", key=key)
    chance = random.Random(20261125)
    paths = sorted(path for path in store.path.glob("2*/*") if path.is_file())
    whole = [(path, place) for path in paths for place in range(path.stat().st_size)]
    undetected = []
    for path, place in chance.sample(whole, FLIPS):
        data = path.read_bytes()
        altered = bytes([data[place] ^ chance.randrange(1, 256)])
        path.write_bytes(data[:place] + altered + data[place + 1 :])
        found = {(fault.bundle, fault.object) for fault in verify_archive(store).faults}
        if (path.parent.name, path.name) not in found:
            undetected.append((path.name, place, altered))
        path.write_bytes(data)
    assert undetected == []
    assert verify_archive(store).faults == ()


def test_every_byte_of_a_signature_counts(tmp_path: Path) -> None:
    """Base64 has bits that decoders ignore; so has JSON's white space."""
    store = archive(tmp_path / "archive", 1, key_pair(tmp_path)[0])
    (path,) = store.path.glob(f"2*/{NAME}")
    data = path.read_bytes()
    for place in range(data.index(b'"signature"'), len(data)):
        for other in {data[place] ^ 1, data[place] ^ 2, data[place] ^ 32, ord(" ")} - {data[place]}:
            path.write_bytes(data[:place] + bytes([other]) + data[place + 1 :])
            assert verify_archive(store).faults, (place, other)


def _drop_file(store: FolderStore, names: list[str]) -> None:
    (store.path / names[1] / "plan.sql").unlink()


def _add_file(store: FolderStore, names: list[str]) -> None:
    (store.path / names[1] / "extra").mkdir()
    (store.path / names[1] / "extra" / "note.txt").write_text("I was here")


def _link_file(store: FolderStore, names: list[str]) -> None:
    path = store.path / names[1] / "plan.sql"
    path.rename(store.path.parent / "elsewhere")
    path.symlink_to(store.path.parent / "elsewhere")


def _drop_manifest(store: FolderStore, names: list[str]) -> None:
    (store.path / names[2] / NAME).unlink()


def _drop_bundle(store: FolderStore, names: list[str]) -> None:
    shutil.rmtree(store.path / names[1])


def _swap_names(store: FolderStore, names: list[str]) -> None:
    (store.path / names[0]).rename(store.path / "aside")
    (store.path / names[1]).rename(store.path / names[0])
    (store.path / "aside").rename(store.path / names[1])


def _copy_bundle(store: FolderStore, names: list[str]) -> None:
    shutil.copytree(store.path / names[1], store.path / f"{names[1]}-2")


def _add_bundle(store: FolderStore, names: list[str]) -> None:
    manifest = make_manifest(
        record("forged"), FILES, Position(bundle="forged", previous=None), None
    )
    (store.path / "forged").mkdir()
    for name, data in {**FILES, NAME: manifest}.items():
        (store.path / "forged" / name).write_bytes(data)


def _reseal(store: FolderStore, names: list[str]) -> None:
    path = store.path / names[1] / NAME
    content = json.loads(path.read_bytes())
    path.write_bytes(seal({**content, "outcome": "refused"}, None))


DONE: dict[str, tuple[Callable[[FolderStore, list[str]], None], list[tuple[int, Kind, str]]]] = {
    "a file removed": (_drop_file, [(1, Kind.REMOVED, "plan.sql")]),
    "a file added": (_add_file, [(1, Kind.ADDED, "extra/note.txt")]),
    "a file moved away behind a link": (_link_file, [(1, Kind.ALTERED, "plan.sql")]),
    "a manifest removed": (_drop_manifest, [(2, Kind.REMOVED, NAME)]),
    "a bundle removed": (_drop_bundle, [(2, Kind.REMOVED, "the bundle before")]),
    "two bundles swapped": (_swap_names, [(0, Kind.REORDERED, "0"), (1, Kind.REORDERED, "1")]),
    "a bundle copied": (_copy_bundle, [(3, Kind.REORDERED, "3"), (3, Kind.ADDED, "3")]),
    "a bundle added": (_add_bundle, [(4, Kind.ADDED, "4")]),
    "a manifest altered and sealed again": (_reseal, [(2, Kind.REMOVED, "the bundle before")]),
}


@pytest.mark.parametrize("what", DONE)
def test_what_was_done_is_said_of_the_bundle_it_was_done_to(what: str, sealed: FolderStore) -> None:
    do, expected = DONE[what]
    names = ordered(sealed.bundles())
    do(sealed, names)
    places = [*names, f"{names[1]}-2", "forged"]
    assert sorted(faults(sealed)) == sorted(
        (places[place], str(kind), places[int(object_)] if object_.isdigit() else object_)
        for place, kind, object_ in expected
    )


def test_nothing_may_stand_beside_a_signature(tmp_path: Path) -> None:
    """Neither seal nor signature covers it, and in the newest bundle no later hash does."""
    store = archive(tmp_path / "archive", 1, key_pair(tmp_path)[0])
    (path,) = store.path.glob(f"2*/{NAME}")
    content = json.loads(path.read_bytes())
    content["signature"]["note"] = "approved"
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8")
    assert faults(store) == [(path.parent.name, "altered", NAME)]


STRANGE: dict[str, Callable[[Path], object]] = {
    "an empty folder": lambda bundle: (bundle / "extra").mkdir(),
    "a link to a folder": lambda bundle: (bundle / "extra").symlink_to("/tmp"),
    "a link to itself": lambda bundle: (bundle / "extra").symlink_to("extra"),
    "a pipe": lambda bundle: os.mkfifo(bundle / "extra"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_is_said_to_be_added(what: str, sealed: FolderStore) -> None:
    name = ordered(sealed.bundles())[1]
    STRANGE[what](sealed.path / name)
    ((bundle, kind, object_),) = faults(sealed)
    assert (bundle, kind, object_.rstrip("/")) == (name, "added", "extra")


def test_a_manifest_that_is_a_link_or_a_pipe_is_none(sealed: FolderStore) -> None:
    name = ordered(sealed.bundles())[2]
    path = sealed.path / name / NAME
    moved = path.rename(sealed.path.parent / "elsewhere.json")
    path.symlink_to(moved)
    assert faults(sealed) == [(name, "altered", NAME)]
    path.unlink()
    os.mkfifo(path)
    assert faults(sealed) == [(name, "altered", NAME)]


def test_a_file_that_is_listed_twice_is_said(sealed: FolderStore) -> None:
    name = ordered(sealed.bundles())[2]
    path = sealed.path / name / NAME
    content = json.loads(path.read_bytes())
    files = [{**content["files"][0], "sha256": "0" * 64}, *content["files"]]
    path.write_bytes(seal({**content, "files": files}, None))
    assert (name, "altered", NAME) in faults(sealed)


def test_another_bundle_under_this_name_is_said(sealed: FolderStore) -> None:
    names = ordered(sealed.bundles())
    shutil.rmtree(sealed.path / names[1])
    shutil.copytree(sealed.path / names[0], sealed.path / names[1])
    (fault,) = verify_bundle(sealed, names[1]).faults
    assert _brief(fault) == (names[1], "reordered", names[1])


def test_names_are_printed_in_one_line_without_control_characters(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    (name,) = store.bundles()
    (store.path / name / "a\nverified: 1 bundle as sealed\x1b[2J").write_text("")
    told = command("verify", cwd=tmp_path)
    assert told.returncode == 4 and "\x1b" not in told.stdout
    assert not any(line.startswith("verified") for line in told.stdout.splitlines())


@pytest.mark.parametrize("head", ["", "41a2066e", "g" * 64])
def test_a_head_that_is_no_hash_is_wrong_usage(head: str, tmp_path: Path) -> None:
    archive(tmp_path / "reports", 1)
    assert command("verify", "--head", head, cwd=tmp_path).returncode == 2


def test_a_head_may_be_written_in_capitals(tmp_path: Path) -> None:
    head = verify_archive(archive(tmp_path / "reports", 1)).head
    assert head and command("verify", "--head", head.upper(), cwd=tmp_path).returncode == 0


def test_bundles_cut_off_the_end_show_only_to_whoever_noted_the_head(sealed: FolderStore) -> None:
    head = verify_archive(sealed).head
    assert faults(sealed, head=head) == []
    shutil.rmtree(sealed.path / ordered(sealed.bundles())[-1])
    assert faults(sealed) == []
    assert faults(sealed, head=head) == [("", "removed", NAME)]


def test_a_signed_archive_in_anothers_place_shows_only_to_whoever_noted_a_hash_of_it(
    tmp_path: Path,
) -> None:
    key, public = key_pair(tmp_path)
    write_bundle(FolderStore(tmp_path / "another"), record("another"), FILES, key)
    noted = archive(tmp_path / "reports", 3, key)
    told = command("verify", cwd=tmp_path)
    verdict = verify_archive(noted)
    assert f"identifies the archive: {verdict.first}\n" in told.stdout
    assert f"newest manifest's SHA-256: {verdict.head}\n" in told.stdout
    trusted = ("verify", "--trusted-key", public)
    assert command(*trusted, "--reports", "another", cwd=tmp_path).returncode == 0
    for noted_hash in (verdict.first, verdict.head):
        assert noted_hash
        demanding = (*trusted, "--head", noted_hash)
        assert command(*demanding, cwd=tmp_path).returncode == 0
        told = command(*demanding, "--reports", "another", cwd=tmp_path)
        assert told.returncode == 4 and "or this is another archive" in told.stdout


def test_a_signed_archive_is_trusted_by_its_key_alone(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    _, other = key_pair(tmp_path, "other")
    store = archive(tmp_path / "archive", key=key)
    assert faults(store) == faults(store, trusted=[public]) == []
    assert faults(store, trusted=[other, public]) == []
    names = ordered(store.bundles())
    assert faults(store, trusted=[other]) == [(name, "untrusted", NAME) for name in names]
    unsigned = archive(tmp_path / "unsigned")
    assert [kind for _, kind, _ in faults(unsigned, trusted=[public])] == ["untrusted"] * 3


def _resealed(store: FolderStore, key: SigningKey | None) -> None:
    """Alter the first run's outcome, and seal everything again, the whole chain."""
    previous = None
    for name in ordered(store.bundles()):
        path = store.path / name / NAME
        content = json.loads(path.read_bytes())
        changed = {**content, "operator": "nobody", "previous_manifest_sha256": previous}
        path.write_bytes(seal(changed, key))
        previous = hashlib.sha256(path.read_bytes()).hexdigest()


def test_sealing_everything_again_is_detected_when_a_key_is_trusted(tmp_path: Path) -> None:
    """The chain alone cannot show it: docs/evidence.md says so."""
    key, public = key_pair(tmp_path)
    thief, _ = key_pair(tmp_path, "thief")
    store = archive(tmp_path / "archive", key=key)
    for n, forger in enumerate((None, thief)):
        forged = copy(store, tmp_path / f"forged{n}")
        _resealed(forged, forger)
        assert faults(forged) == []
        found = faults(forged, trusted=[public])
        assert [kind for _, kind, _ in found] == ["untrusted"] * 3


@given(
    content=st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda items: st.lists(items) | st.dictionaries(st.text(), items),
            max_leaves=5,
        ),
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_content_can_be_sealed_and_read_again(content: dict[str, Any]) -> None:
    reserved = {"schema", "seal", "signature"}
    kept = {name: item for name, item in content.items() if name not in reserved}
    data = seal({"schema": "runbook.manifest/1", **kept}, None)
    manifest = read_manifest(data)
    assert manifest is not None and manifest.is_sealed and manifest.signer is None


@pytest.fixture
def spoiled() -> Iterator[list[bytes]]:
    """Files that are no manifests, whatever they look like."""
    yield [
        b"[" * 100_000,
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema": 1}',
        b"\xff\xfe",
        b'{"name": "a web app"}',
    ]


def test_a_manifest_that_is_none_is_said_to_be_none(
    sealed: FolderStore, spoiled: list[bytes]
) -> None:
    name = ordered(sealed.bundles())[-1]
    for data in spoiled:
        (sealed.path / name / NAME).write_bytes(data)
        assert faults(sealed) == [(name, "altered", NAME)]
        assert _brief(verify_bundle(sealed, name).faults[0]) == (name, "altered", NAME)


def test_lists_and_hashes_of_any_kind_in_a_manifest_do_not_stop_the_verification(
    sealed: FolderStore,
) -> None:
    name = ordered(sealed.bundles())[-1]
    path = sealed.path / name / NAME
    content = json.loads(path.read_bytes())
    broken: list[Any] = [None, 7, [1, None], [{}], [{"name": None, "bytes": "x", "sha256": []}]]
    for files in broken:
        path.write_bytes(seal({**content, "files": files}, None))
        kinds = {kind for _, kind, _ in faults(sealed)}
        assert "added" in kinds


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `runbook archive …`."""
    return subprocess.run(
        [sys.executable, "-m", "runbook", "archive", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_tells_and_ends_with_4(tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    store = archive(tmp_path / "reports", key=key)
    names = ordered(store.bundles())
    told = command("verify", "--trusted-key", "key.pub", cwd=tmp_path)
    assert told.returncode == 0 and "3 bundles as sealed, all signed by a trusted" in told.stdout
    one = command("verify", f"reports/{names[0]}", "--json", cwd=tmp_path)
    assert one.returncode == 0 and json.loads(one.stdout)["bundles"] == [names[0]]
    (store.path / names[1] / "plan.sql").write_text("SELECT 2;")
    told = command("verify", cwd=tmp_path)
    assert told.returncode == 4 and f"ALTERED {names[1]}/plan.sql" in told.stdout
    assert "3 bundles verified, 1 fault found.\n  What is named above proves n" in told.stdout
    assert "UNTRUSTED" not in told.stdout
    told = command("verify", "--json", cwd=tmp_path)
    answer = json.loads(told.stdout)
    assert told.returncode == 4 and answer["passed"] is False
    assert [(f["bundle"], f["kind"], f["object"]) for f in answer["faults"]] == [
        (names[1], "altered", "plan.sql")
    ]
    assert command("verify", names[0], cwd=tmp_path).returncode == 0
    assert command("verify", names[1], cwd=tmp_path).returncode == 4
    shutil.rmtree(store.path / names[1])
    told = command("verify", cwd=tmp_path)
    assert told.returncode == 4 and f"REMOVED the bundle before {names[2]}\n" in told.stdout


def test_what_is_only_not_trusted_is_not_called_altered(tmp_path: Path) -> None:
    archive(tmp_path / "reports", 1)
    key_pair(tmp_path)
    told = command("verify", "--trusted-key", "key.pub", cwd=tmp_path)
    assert told.returncode == 4 and "1 bundle verified, 1 fault found.\n" in told.stdout
    assert "give every key that you trust" in told.stdout and "proves" not in told.stdout


def test_what_is_no_regular_file_is_said_to_be_none(sealed: FolderStore) -> None:
    _link_file(sealed, ordered(sealed.bundles()))
    (fault,) = verify_archive(sealed).faults
    assert fault.message == "It is no regular file: what it leads to was never sealed."


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--reports", "nowhere"),
        ("verify", "nothing"),
        ("verify", "no/such/path"),
        ("verify", "reports/index.html"),
        ("verify", "reports/nothing"),
        ("verify", "s3://"),
        ("verify", "--trusted-key", "nothing"),
        ("verify", "--reports", "nosuch://place"),
        ("list", "--reports", "nowhere"),
    ],
)
def test_what_is_not_there_is_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    archive(tmp_path / "reports", 1)
    told = command(*arguments, cwd=tmp_path)
    assert told.returncode == 2 and "Error:" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.parametrize("given", ["reports", "./reports/", "{}/reports", "file://{}/reports"])
def test_an_archive_that_is_given_as_a_bundle_is_wrong_usage(given: str, tmp_path: Path) -> None:
    archive(tmp_path / "reports", 1)
    given = given.format(tmp_path)
    told = command("verify", given, cwd=tmp_path)
    assert told.returncode == 2 and told.stdout == ""
    assert f"{given} is an archive, not a bundle." in told.stderr
    assert f"runbook archive verify --reports {given}" in told.stderr
    assert command("verify", "--reports", given, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("do", ["verify", "list"])
def test_a_bundle_that_is_given_as_an_archive_is_wrong_usage(do: str, tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    (name,) = store.bundles()
    told = command(do, "--reports", f"reports/{name}", cwd=tmp_path)
    place = tmp_path / "reports" / name
    assert told.returncode == 2 and f"{place} is a bundle, not an archive." in told.stderr
    assert f"runbook archive verify {place}" in told.stderr
    assert command("verify", str(place), cwd=tmp_path).returncode == 0


def test_a_hash_that_is_cut_or_goes_with_one_bundle_is_wrong_usage(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    (name,) = store.bundles()
    whole = str(verify_archive(store).head)
    told = command("verify", "--head", whole[:8], cwd=tmp_path)
    assert told.returncode == 2 and f"{whole[:8]!r} is none" in told.stderr
    told = command("verify", "--head", whole, name, cwd=tmp_path)
    assert told.returncode == 2 and "not with one bundle" in told.stderr


def test_a_bundle_without_its_manifest_is_no_archive(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    (name,) = store.bundles()
    (store.path / name / NAME).unlink()
    assert command("verify", f"reports/{name}", cwd=tmp_path).returncode == 4


def test_the_list_has_a_line_a_bundle(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports")
    told = command("list", cwd=tmp_path)
    lines = told.stdout.splitlines()
    assert told.returncode == 0 and len(lines) == 4
    assert [line.split()[-1] for line in lines[1:]] == ordered(store.bundles())
    entries = json.loads(command("list", "--json", cwd=tmp_path).stdout)["bundles"]
    assert [entry["bundle"] for entry in entries] == ordered(store.bundles())
    assert entries[0]["finished_at"] == "2026-01-02T03:04:00.000Z"
    first = ordered(store.bundles())[0]
    (store.path / first / NAME).write_text("{")
    told = command("list", cwd=tmp_path)
    assert told.returncode == 0 and first not in told.stdout
    assert told.stderr == f"Not listed: {first} has no manifest that can be read.\n"


def test_the_seal_can_be_made_with_the_standard_library_alone(sealed: FolderStore) -> None:
    """The recipe of docs/evidence.md, word for word."""
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text("utf-8")
    recipe = page.partition("```python\n")[2].partition("```")[0]
    folder = sealed.path / ordered(sealed.bundles())[0]
    told = subprocess.run(
        [sys.executable, "-"], input=recipe, cwd=folder, capture_output=True, text=True, check=True
    )
    assert told.stdout == "as sealed\n"
    (folder / NAME).write_bytes((folder / NAME).read_bytes().replace(b"llamalog", b"llamalox", 1))
    told = subprocess.run(
        [sys.executable, "-"], input=recipe, cwd=folder, capture_output=True, text=True, check=True
    )
    assert told.stdout == "ALTERED\n"


def test_the_commands_of_the_evidence_page_find_what_was_altered(tmp_path: Path) -> None:
    """`sha256sum` and `openssl`, for who wants no tool of ours."""
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text("utf-8")
    scripts = [block.partition("```")[0] for block in page.split("```bash\n")[1:]]
    key, _ = key_pair(tmp_path)
    store = archive(tmp_path / "reports", key=key)
    folder = store.path / ordered(store.bundles())[0]
    shutil.copy(tmp_path / "key.pub", folder.parent / "operator.key.pub")

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    needed = [shutil.which(program) for program in ("jq", "openssl", "sha256sum")]
    if not all(needed):
        pytest.skip("jq, openssl or sha256sum is not installed")
    for script in scripts:
        assert run(script).returncode == 0, run(script).stderr + run(script).stdout
    (folder / "plan.sql").write_text("SELECT 2;")
    assert run(scripts[0]).returncode != 0
    manifest = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(manifest.replace(b"llamalog", b"llamalox", 1))
    assert run(scripts[1]).returncode != 0
