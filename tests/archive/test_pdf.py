"""`--pdf` archives the report on paper, too, or is refused before anything is done."""

import json
import os
from pathlib import Path

import pytest

from runbook.archive.folder import FolderStore
from runbook.archive.verification import verify_archive
from runbook.errors import UsageError
from runbook.report.pdf import require_pdf
from tests.cli.test_refusals import run
from tests.conftest import Database
from tests.state import database_state


@pytest.mark.soak
def test_the_pdf_is_in_the_bundle_and_sealed(sample_newest: Database, tmp_path: Path) -> None:
    try:
        require_pdf()
    except UsageError as error:
        pytest.skip(str(error))
    ended = run("migrate", "--database-url", sample_newest.url, "--pdf", "--json")
    assert ended.returncode == 0, ended.stderr
    bundle = Path(json.loads(ended.stdout)["bundle"])
    assert (bundle / "report.pdf").read_bytes().startswith(b"%PDF-")
    listed = json.loads((bundle / "manifest.json").read_text("utf-8"))["files"]
    assert "report.pdf" in [file["name"] for file in listed]
    assert verify_archive(FolderStore(tmp_path / "reports")).faults == ()


def test_it_is_refused_where_weasyprint_is_missing(sample_newest: Database, tmp_path: Path) -> None:
    hurdle = tmp_path / "hurdle"
    hurdle.mkdir()
    (hurdle / "weasyprint.py").write_text("raise ImportError('not here')\n")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = run(
            *("migrate", "--database-url", sample_newest.url, "--pdf"),
            env=os.environ | {"PYTHONPATH": str(hurdle)},
        )
        assert database_state(connection) == before
    assert ended.returncode == 2 and "weasyprint, which is not installed" in ended.stderr
