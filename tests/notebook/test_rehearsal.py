"""`runbook rehearse` from end to end: what it tells, and what it leaves behind."""

import json
from pathlib import Path

import pytest

from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.notebook.papermilling import bundles, notebook, papermill
from tests.rehearsal.test_rehearsal import TOUCH
from tests.state import database_state


def test_a_rehearsal_is_archived_with_its_times_and_an_estimate(
    sample_newest: Database, tmp_path: Path
) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("rehearse", "--database-url", sample_newest.url, "--rows", "2000", "--json")
        assert ended.returncode == 0, ended.stderr
        assert database_state(connection) == before
    told = json.loads(ended.stdout)
    rehearsal = told["rehearsal"]
    assert 0 < rehearsal["rows"] <= 2000 < rehearsal["of_rows"] == 4052
    assert [leg["name"] for leg in rehearsal["legs"]] == ["up", "down", "up again"]
    assert all(leg["passed"] and leg["ms"] >= leg["locked_ms"] > 0 for leg in rehearsal["legs"])
    assert rehearsal["same_plan"] and rehearsal["plan_sha256"] == told["plan"]["sha256"]
    up, down = rehearsal["estimates"]
    assert (up["name"], down["name"]) == ("up", "down") and up["ms"][0] <= up["ms"][1]
    assert told["proof"]["passed"] and all(check["passed"] for check in told["checks"])
    assert len({check["id"] for check in told["checks"]}) == len(told["checks"])
    for shown in ("up again", "all rows down", "(estimated)"):
        assert shown in ended.stderr
    (bundle,) = bundles(tmp_path)
    html = (bundle / "report.html").read_text()
    for shown in ("rows rehearsed", "time, all rows", "lock, all rows", "nothing that the plan"):
        assert shown in html
    assert json.loads((bundle / "manifest.json").read_text())["rehearsal"] == rehearsal


def test_one_that_fails_ends_with_3_and_says_why(sample_newest: Database, tmp_path: Path) -> None:
    sample_newest.execute(*TOUCH)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run("rehearse", "--database-url", sample_newest.url)
        assert ended.returncode == 3
        assert database_state(connection) == before
    assert "The rehearsal failed on its way up: The proof failed" in ended.stdout
    assert "Nothing was changed but the scratch copy, which is gone." in ended.stdout
    (bundle,) = bundles(tmp_path)
    assert bundle.name.endswith("rehearse-refused")


@pytest.mark.soak
def test_a_migration_that_is_applied_is_not_rehearsed(
    sample_newest: Database, tmp_path: Path
) -> None:
    given = ("--database-url", sample_newest.url)
    assert run("migrate", *given).returncode == 0
    ended = run("rehearse", *given)
    assert ended.returncode == 3
    assert "is applied already here" in ended.stdout and "runbook status" in ended.stdout


def test_bare_papermill_rehearses_in_a_schema(sample_newest: Database, tmp_path: Path) -> None:
    ended = papermill(
        notebook("rehearse"),
        *("-p", "scratch", "schema", "-p", "mode", "online"),
        cwd=tmp_path,
        env={"DATABASE_URL": sample_newest.url},
    )
    assert ended.returncode == 0, ended.stderr
    (bundle,) = bundles(tmp_path)
    told = json.loads((bundle / "manifest.json").read_text())["rehearsal"]
    assert told["where"].startswith("schema runbook_rehearsal_") and not told["same_plan"]
    assert any("foreign keys" in one for one in told["lacks"])
