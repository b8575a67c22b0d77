"""`runbook approve` and `migrate --require-approval`: who may let a plan run, and what changed."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runbook.archive.keys import make_key
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.run.test_atomic import unchanged


def said(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object on standard output."""
    content: dict[str, Any] = json.loads(ended.stdout)
    return content


def review(database: Database) -> Path:
    """Review a database; return the bundle."""
    ended = run("review", "--database-url", database.url, "--json")
    assert ended.returncode == 0, ended.stderr
    return Path(said(ended)["bundle"])


def migrate(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("migrate", "--database-url", database.url, "--json", *arguments)


def plan_of(bundle: Path) -> str:
    return str(json.loads((bundle / "manifest.json").read_text())["plan"]["sha256"])


def test_only_an_approved_plan_runs_and_the_report_says_who_approved_it(
    sample_newest: Database, tmp_path: Path
) -> None:
    reviewed = review(sample_newest)
    with unchanged(sample_newest):
        refused = migrate(sample_newest, "--require-approval")
    assert refused.returncode == 3
    assert "is not approved: there is no approval of it in reports" in said(refused)["message"]
    assert "runbook approve BUNDLE --by" in said(refused)["remedy"]

    approved = run("approve", reviewed.name, "--by", "Ada L.", "--note", "read it all")
    assert approved.returncode == 0, approved.stderr
    assert f"Plan {plan_of(reviewed)} is approved by Ada L." in approved.stdout
    assert "It is not signed" in approved.stderr

    done = migrate(sample_newest, "--require-approval")
    assert done.returncode == 0, done.stderr
    bundle = Path(said(done)["bundle"])
    plan = json.loads((bundle / "manifest.json").read_text())["plan"]
    approval = plan["approval"]
    assert plan["approved"] == plan["sha256"] == plan_of(reviewed)
    assert (approval["by"], approval["note"], approval["signed_by"]) == (
        "Ada L.", "read it all", None,
    )  # fmt: skip
    assert approval["review"] == reviewed.name
    assert "by Ada L., 20" in (bundle / "report.html").read_text("utf-8")
    verified = run("archive", "verify")
    assert verified.returncode == 0, verified.stdout
    assert "approve" in run("archive", "list").stdout


@pytest.mark.soak
def test_where_keys_are_named_only_an_approval_that_one_of_them_signed_counts(
    sample_newest: Database, tmp_path: Path
) -> None:
    theirs, others = tmp_path / "approver", tmp_path / "other"
    make_key(theirs), make_key(others)
    required = ("--require-approval", "--approver-key", f"{theirs}.pub")
    reviewed = review(sample_newest)
    with unchanged(sample_newest):
        for arguments, reason in (
            ((), "The manifest is not signed"),
            (("--signing-key", str(others)), "which is not trusted"),
        ):
            ended = run("approve", str(reviewed), "--by", "Mallory", *arguments)
            assert ended.returncode == 0, ended.stderr
            refused = migrate(sample_newest, *required)
            assert refused.returncode == 3 and reason in said(refused)["message"]
    assert run("approve", reviewed.name, "--by", "Ada", "--signing-key", str(theirs)).stderr == ""
    done = migrate(sample_newest, *required)
    assert done.returncode == 0, done.stderr
    plan = json.loads((Path(said(done)["bundle"]) / "manifest.json").read_text())["plan"]
    assert plan["approval"]["by"] == "Ada" and plan["approval"]["signed_by"]


@pytest.mark.soak
def test_what_changed_since_the_approval_is_named(sample_newest: Database) -> None:
    reviewed = review(sample_newest)
    assert run("approve", reviewed.name, "--by", "Ada").returncode == 0
    sample_newest.execute(
        "ALTER TABLE enrichment_logs ADD COLUMN more integer",
        "DROP INDEX enrichment_logs_entity_type_entity_id_idx",
    )
    with unchanged(sample_newest):
        for arguments in (("--require-approval",), ("--approved-plan", plan_of(reviewed))):
            refused = migrate(sample_newest, *arguments)
            assert refused.returncode == 3
            message = said(refused)["message"]
            assert f"The approved plan is {plan_of(reviewed)}" in message
            assert "table.columns.more is new" in message
            assert "table.indexes.enrichment_logs_entity_type_entity_id_idx is gone" in message
    page = (Path(said(refused)["bundle"]) / "report.html").read_text("utf-8")
    assert "What changed since the plan was approved" in page


@pytest.mark.soak
def test_a_bundle_that_was_altered_or_is_no_review_cannot_be_approved(
    sample_newest: Database, tmp_path: Path
) -> None:
    reviewed = review(sample_newest)
    verified = run("verify", "--database-url", sample_newest.url, "--json")
    for bundle, reason in (
        (Path(said(verified)["bundle"]), "only a review that succeeded"),
        (altered(reviewed), "is not as it was sealed"),
    ):
        ended = run("approve", bundle.name, "--by", "Ada")
        assert ended.returncode == 3 and reason in ended.stderr
    assert run("approve", "nowhere", "--by", "Ada").returncode == 2
    assert run("approve", reviewed.name, "--by", " ").returncode == 2
    assert not [path for path in reviewed.parent.iterdir() if "-approve-" in path.name]


@pytest.mark.soak
def test_an_approval_that_was_altered_does_not_count(sample_newest: Database) -> None:
    reviewed = review(sample_newest)
    made = said(run("approve", reviewed.name, "--by", "Ada", "--json"))["bundle"]
    approval = Path(made) / "approval.json"
    approval.write_text(approval.read_text().replace("Ada", "Eve"))
    with unchanged(sample_newest):
        refused = migrate(sample_newest, "--require-approval")
    assert refused.returncode == 3 and "does not count" in said(refused)["message"]


def altered(bundle: Path) -> Path:
    """Return a copy of a bundle in whose plan a statement was altered."""
    copy = bundle.with_name(f"{bundle.name}-altered")
    shutil.copytree(bundle, copy)
    with (copy / "plan.sql").open("a") as file:
        file.write("-- and one more\n")
    return copy


@pytest.fixture(autouse=True)
def _no_key_of_the_person_who_tests() -> None:
    assert "RUNBOOK_SIGNING_KEY" not in os.environ
