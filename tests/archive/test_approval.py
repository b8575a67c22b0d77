"""Approvals in the archive: bound to the plan and the review, sealed, and trusted by key."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from runbook.archive.approval import Approved, Uncounted, approvals, approve, reviewed_plan
from runbook.archive.bundle import write_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.verification import verify_archive
from runbook.errors import Outcome, RefusedError
from runbook.record import PlanRecord
from tests.archive.archives import key_pair
from tests.report.records import record

PLAN = "ab" * 32
DATA = {"mode": "atomic", "facts": {}}


def archived(store: FolderStore, *, step: str = "review", outcome: Outcome = Outcome.SUCCEEDED,
             plan: str = PLAN) -> str:  # fmt: skip
    """Archive a run; return its bundle's name."""
    made = record(
        step=step, outcome=outcome, plan=PlanRecord(sha256=plan, mode="atomic", approved=None)
    )
    files = {"plan.sql": b"SELECT 1;\n", "plan.json": json.dumps(DATA).encode()}
    return write_bundle(store, made, files).name


def counted(store: FolderStore) -> list[Approved]:
    """Return the approvals of an archive, all of which count."""
    found = list(approvals(store))
    counting = [one for one in found if isinstance(one, Approved)]
    assert counting == found
    return counting


def why_not(store: FolderStore, trusted: Sequence[str] = ()) -> list[str]:
    """Return why each approval of an archive does not count; '' where it does."""
    found = approvals(store, trusted)
    return [one.why if isinstance(one, Uncounted) else "" for one in found]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "reports")


def test_an_approval_is_bound_to_the_plan_and_to_the_review_as_it_was(store: FolderStore) -> None:
    review = archived(store)
    made = approve(store, review, by="Ada", note="read", key=None)
    (found,) = counted(store)
    plan, approval = found.plan, found.approval
    assert (plan, approval.by, approval.note) == (PLAN, "Ada", "read")
    assert approval.review_sha256 == store.bundles()[review].sha256
    assert approval.bundle == made.name and approval.signed_by is None
    assert json.loads(store.read(made.name, "approval.json"))["plan"]["sha256"] == PLAN
    assert verify_archive(store).faults == ()


def test_the_newest_approval_comes_first(store: FolderStore) -> None:
    review = archived(store)
    for name in ("Ada", "Grace"):
        approve(store, review, by=name, note="", key=None)
    assert [found.approval.by for found in counted(store)] == ["Grace", "Ada"]


@pytest.mark.parametrize(
    ("step", "outcome"), [("review", Outcome.REFUSED), ("migrate", Outcome.SUCCEEDED)]
)
def test_only_a_review_that_succeeded_can_be_approved(
    step: str, outcome: Outcome, store: FolderStore
) -> None:
    bundle = archived(store, step=step, outcome=outcome)
    with pytest.raises(RefusedError, match="only a review that succeeded"):
        approve(store, bundle, by="Ada", note="", key=None)
    assert list(store.folders()) == [bundle]


@pytest.mark.parametrize("file", ["plan.sql", "plan.json", "manifest.json"])
def test_a_review_that_was_altered_cannot_be_approved(file: str, store: FolderStore) -> None:
    bundle = archived(store)
    with (store.path / bundle / file).open("a") as opened:
        opened.write(" ")
    with pytest.raises(RefusedError, match="not as it was sealed"):
        approve(store, bundle, by="Ada", note="", key=None)
    assert reviewed_plan(store, PLAN) is None


def test_only_a_signature_of_a_trusted_key_counts_where_one_is_asked_for(
    store: FolderStore, tmp_path: Path
) -> None:
    (mine, public), (other, _) = key_pair(tmp_path, "mine"), key_pair(tmp_path, "other")
    review = archived(store)
    for key in (None, other, mine):
        approve(store, review, by="Ada", note="", key=key)
    reasons = why_not(store, [public])
    assert reasons[0] == ""
    assert "which is not trusted" in reasons[1] and "not signed" in reasons[2]
    assert [found.approval.signed_by is not None for found in counted(store)] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["approval.json", "manifest.json"])
def test_an_approval_that_was_altered_does_not_count(file: str, store: FolderStore) -> None:
    made = approve(store, archived(store), by="Ada", note="", key=None)
    path = store.path / made.name / file
    path.write_text(path.read_text("utf-8").replace("Ada", "Eve"))
    (why,) = why_not(store)
    assert "does not count" in why


@pytest.mark.parametrize("by", ["another review in its place", "another file", "removal"])
def test_an_approval_whose_review_is_not_as_it_was_does_not_count(
    by: str, store: FolderStore
) -> None:
    review = archived(store)
    approve(store, review, by="Ada", note="", key=None)
    if by == "removal":
        shutil.rmtree(store.path / review)
    elif by == "another file":
        (store.path / review / "plan.sql").write_text("SELECT 2;\n")
    else:
        manifest = store.path / review / "manifest.json"
        other = store.path / archived(store, plan="cd" * 32) / "manifest.json"
        manifest.write_bytes(other.read_bytes())
    (why,) = why_not(store)
    assert "is not as it was" in why


def test_a_manifest_that_was_altered_to_nonsense_is_no_approval(store: FolderStore) -> None:
    made = approve(store, archived(store), by="Ada", note="", key=None)
    path = store.path / made.name / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    wrong = {**content["plan"], "approval": "yes"}
    nonsense: object
    for nonsense in (None, [], {"sha256": 7}, wrong):
        path.write_text(json.dumps({**content, "plan": nonsense}))
        assert list(approvals(store)) == []


def test_the_plan_of_a_review_is_found_by_its_hash(store: FolderStore) -> None:
    archived(store, plan="cd" * 32)
    archived(store)
    assert reviewed_plan(store, PLAN) == DATA
    assert reviewed_plan(store, "ef" * 32) is None
