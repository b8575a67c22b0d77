"""The Airflow DAG: it imports, its tasks run by the real operator, and nothing secret is kept."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.notebook.papermilling import bundles, manifest

INSTALLED = os.environ.get("RUNBOOK_AIRFLOW", "")
"""Where `make airflow-check` has installed it; '' in the ordinary suite."""

DAGS = Path(__file__).resolve().parents[2] / "docs" / "airflow"

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="`make airflow-check` runs it with the real Airflow"
)


class Airflow:
    """An Airflow of a test's own: its home, and the environment of its workers."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": f"{INSTALLED}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "RUNBOOK_REPORTS": str(folder / "reports"),
            "XDG_STATE_HOME": str(folder / "state"),
            "DATABASE_URL": url,
        }
        assert self._airflow("db", "migrate").returncode == 0

    def run(self, **parameters: str) -> subprocess.CompletedProcess[str]:
        """Import the DAG and run it once, every task by its operator."""
        return self._airflow("dags", "test", "runbook_llamalog", "--conf", json.dumps(parameters))

    def _airflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"{INSTALLED}/bin/airflow", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )

    def outcomes(self) -> list[tuple[str, str, int]]:
        """Return step, outcome and exit code of all that is archived."""
        found = [manifest(one) for one in bundles(self.folder)]
        return [(one["step"], one["outcome"], one["exit_code"]) for one in found]


def test_review_migrate_and_verify_run_and_archive(sample_newest: Database, tmp_path: Path) -> None:
    url = sample_newest.url.replace("://postgres@", "://postgres:kept-from-airflow@")
    airflow = Airflow(tmp_path, url)
    ended = airflow.run(approved_plan="0" * 64)
    assert airflow.outcomes() == [("review", "succeeded", 0), ("migrate", "refused", 3)], (
        ended.stdout
    )
    assert "DagRun failed" in ended.stdout and "RunFailed: The approved plan is" in ended.stdout
    assert sample_newest.value("SELECT count(*) FROM enrichment_logs") == 4052

    review = manifest(bundles(tmp_path)[0])
    ended = airflow.run(approved_plan=review["plan"]["sha256"])
    assert ended.returncode == 0 and "DagRun failed" not in ended.stdout, ended.stdout
    assert airflow.outcomes()[2:] == [
        ("review", "succeeded", 0),
        ("migrate", "succeeded", 0),
        ("verify", "succeeded", 0),
    ]
    assert sample_newest.value("SELECT count(*) FROM llama_logs") == 4052
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if b"kept-from-airflow" in path.read_bytes()] == []
