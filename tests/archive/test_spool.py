"""A report that cannot be delivered is kept, said to be kept, and delivered later."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook.archive.chain import ordered
from runbook.archive.folder import FolderStore
from runbook.archive.manifest import NAME, seal
from runbook.archive.spool import VARIABLE, push, spool, spooled
from runbook.archive.store import ArchiveError
from runbook.archive.verification import verify_archive
from runbook.cli import main
from tests.archive.archives import FILES, archive, key_pair, record
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.notebook.papermilling import notebook, papermill, with_cell
from tests.state import database_state

BREAK = """
import pathlib, shutil
shutil.rmtree("reports")
pathlib.Path("reports").write_text("in the way")
"""
"""Takes the archive away in the middle of a run; root could write into any folder that is there."""


def test_what_waits_is_delivered_into_the_chain_once(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    store = archive(tmp_path / "reports", 2, key)
    for name in ("late 1", "late 2"):
        assert spool(record(name), FILES, store.location, key)
    waiting = [one.manifest.content["run_id"] for one in spooled()]
    assert waiting == ["late 1", "late 2"]
    assert [bool(one.bundle) for one in push(None, key)] == [True, True]
    assert list(spooled()) == [] and list(push(None, key)) == []
    verdict = verify_archive(store, trusted=[public])
    assert verdict.faults == ()
    runs = [store.bundles()[name].content["run_id"] for name in verdict.bundles]
    assert runs == ["run 0", "run 1", "late 1", "late 2"]
    for name in verdict.bundles:
        assert {file: store.read(name, file) for file in store.files(name)} == FILES


def test_a_bundle_that_arrived_already_is_not_archived_twice(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 2)
    spool(record("run 1"), FILES, store.location, None)
    assert [one.bundle.name for one in push(None, None) if one.bundle] == [
        ordered(store.bundles())[1]
    ]
    assert len(store.bundles()) == 2 and list(spooled()) == []


def test_a_manifest_of_another_version_is_delivered_with_all_that_it_says(tmp_path: Path) -> None:
    """It lacks what this version would fill in, and holds what this version does not know."""
    store = archive(tmp_path / "reports", 1)
    kept = spool(record("late"), FILES, store.location, None)
    assert kept is not None
    content = json.loads((kept / NAME).read_bytes())
    del content["operator"]
    content |= {
        "outcome": "abandoned",
        "approval": {"ticket": 7},
        "database": {"name": "a", "b": 1},
    }
    (kept / NAME).write_bytes(seal(content, None))
    (told,) = push(None, None)
    assert told.bundle is not None, told.problem
    delivered = dict(store.bundles()[told.bundle.name].content)
    assert list(delivered) == list(content)
    assert {name for name in content if delivered[name] != content[name]} == {
        "previous_manifest_sha256",
        "seal",
    }
    assert verify_archive(store).faults == ()


def test_an_altered_bundle_is_not_delivered(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    kept = spool(record("late"), FILES, store.location, None)
    assert kept is not None
    (kept / "plan.sql").write_text("SELECT 2;")
    (told,) = push(None, None)
    assert told.bundle is None and "plan.sql was altered" in told.problem
    assert len(store.bundles()) == 1 and kept.is_dir()


def test_what_was_not_signed_when_it_was_spooled_is_not_signed_on_delivery(
    tmp_path: Path,
) -> None:
    key, _ = key_pair(tmp_path)
    thief, _ = key_pair(tmp_path, "thief")
    store = archive(tmp_path / "reports", 1, key)
    spool(record("unsigned"), FILES, store.location, None)
    spool(record("forged"), FILES, store.location, thief)
    told = list(push(None, key))
    assert [one.bundle for one in told] == [None, None]
    assert all("was not signed by this key when" in one.problem for one in told)
    assert len(store.bundles()) == 1 and len(list(spooled())) == 2


def test_a_spool_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    assert spool(record("late"), FILES, "reports", None)
    folder.chmod(0o777)
    assert list(spooled()) == [] and spool(record("late 2"), FILES, "reports", None) is None


def test_one_that_cannot_be_delivered_does_not_hold_up_the_others(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool(record("first"), FILES, str(tmp_path / "file" / "reports"), None)
    spool(record("second"), FILES, str(tmp_path / "reports"), None)
    told = {one.target: one for one in push(None, None)}
    assert told[str(tmp_path / "reports")].bundle is not None
    assert "cannot be written" in told[str(tmp_path / "file" / "reports")].problem
    assert len(list(spooled())) == 1


def test_where_a_bundle_belongs_is_never_guessed(tmp_path: Path) -> None:
    kept = spool(record("late"), FILES, "elsewhere", None)
    assert kept is not None
    kept.with_name(f"{kept.name}.target").unlink()
    (told,) = push(None, None)
    assert told.bundle is None and "--reports" in told.problem
    (told,) = push(str(tmp_path / "named"), None)
    assert told.bundle is not None and told.bundle.location.startswith(str(tmp_path / "named"))


def test_two_at_once_deliver_every_bundle_once(tmp_path: Path) -> None:
    store = archive(tmp_path / "reports", 1)
    for n in range(4):
        spool(record(f"late {n}"), FILES, store.location, None)
    threads = [threading.Thread(target=lambda: list(push(None, None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = sorted(manifest.content["run_id"] for manifest in store.bundles().values())
    assert runs == ["late 0", "late 1", "late 2", "late 3", "run 0"]
    assert verify_archive(store).faults == () and list(spooled()) == []


def test_the_next_place_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    kept = spool(record("late"), FILES, "reports", None)
    assert kept is not None and kept.is_relative_to(tmp_path / "tmp")
    assert [one.path for one in spooled()] == [kept]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "spool"))
    assert spool(record("late"), FILES, "reports", None) is None


def test_a_folder_of_the_spool_is_its_owners_alone() -> None:
    kept = spool(record("late"), FILES, "reports", None)
    assert kept is not None and kept.parent.stat().st_mode & 0o077 == 0


def test_a_run_whose_archive_goes_away_is_kept_and_says_so(
    sample_newest: Database, tmp_path: Path
) -> None:
    broken = with_cell(notebook("migrate"), "counts", BREAK, tmp_path / "broken.ipynb")
    ended = papermill(broken, cwd=tmp_path, env={"DATABASE_URL": sample_newest.url})
    assert ended.returncode != 0
    assert "succeeded: " in ended.stderr
    assert "The report could not be archived: File exists." in ended.stderr
    assert "runbook archive push" in ended.stderr
    (waiting,) = spooled()
    assert str(waiting.path) in ended.stderr
    content = waiting.manifest.content
    assert (content["outcome"], content["exit_code"]) == ("succeeded", 0)
    assert sample_newest.value("SELECT run_id::text FROM runbook.ledger") == content["run_id"]
    (tmp_path / "reports").unlink()
    told = subprocess.run(
        [sys.executable, "-m", "runbook", "archive", "push", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (delivered,) = json.loads(told.stdout)["delivered"]
    assert delivered["bundle"]["location"].startswith(str(tmp_path / "reports"))
    store = FolderStore(tmp_path / "reports")
    assert [m.content["run_id"] for m in store.bundles().values()] == [content["run_id"]]
    assert verify_archive(store).faults == ()


def test_the_command_ends_with_1_when_the_report_could_not_be_archived(
    sample_newest: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FolderStore.publish

    def publish(self: FolderStore, *arguments: Any) -> str:
        if self.path == tmp_path / "reports":
            raise ArchiveError("No space left on device")
        return real(self, *arguments)

    monkeypatch.setattr(FolderStore, "publish", publish)
    arguments = ["migrate", "--database-url", sample_newest.url, "--json"]
    monkeypatch.setattr(sys, "argv", ["runbook", *arguments])
    ended = CliRunner().invoke(main, arguments)
    answer = json.loads(ended.stdout)
    assert (ended.exit_code, answer["exit_code"], answer["outcome"]) == (1, 1, "succeeded")
    assert answer["archive_problem"] == "No space left on device" and answer["bundle"] == ""
    assert (Path(answer["spooled"]) / "report.html").is_file()
    assert "runbook archive push" in ended.stderr and "Traceback" not in ended.stderr
    assert not list(FolderStore(tmp_path / "reports").folders())


@pytest.mark.parametrize(
    ("reports", "why"),
    [("file/reports", "Not a directory"), ("nosuch://x/y", "not known"), ("s3://", "no place")],
)
def test_an_archive_that_cannot_be_written_leaves_the_database_untouched(
    reports: str, why: str, sample_newest: Database, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("migrate", "--database-url", sample_newest.url, "--reports", reports)
        bare = papermill(
            notebook("migrate"),
            *("-p", "reports", reports),
            cwd=tmp_path,
            env={"DATABASE_URL": sample_newest.url},
        )
        assert database_state(connection) == before
    assert ended.returncode == 2 and why in ended.stderr
    assert bare.returncode != 0 and why in bare.stderr


def test_a_signing_key_that_cannot_be_read_leaves_the_database_untouched(
    sample_newest: Database,
) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("migrate", "--database-url", sample_newest.url, "--signing-key", "nowhere")
        assert database_state(connection) == before
    assert ended.returncode == 2 and "signing key nowhere cannot be read" in ended.stderr
    assert not list(Path("reports").glob("2*"))
