"""Without a kernel: the same notebook leaves the same evidence."""

import json
from pathlib import Path
from typing import Any

import papermill

from runbook.archive.destination import prepare
from runbook.archive.store import open_store
from runbook.archive.verification import verify_archive
from runbook.engine.archiving import Archived
from runbook.engine.notebooks import notebook_path
from tests.conftest import Cluster, Database


def execute(database: Database, reports: Path, *, in_process: bool, **more: Any) -> Archived:
    """Migrate a database by the engine; return what was archived."""
    found: list[Archived] = []
    try:
        papermill.execute_notebook(
            notebook_path("migrate"),
            None,
            parameters={"database_url": database.url, "reports": str(reports), **more},
            engine_name="runbook",
            kernel_name="python3",
            progress_bar=False,
            report=found.append,
            destination=prepare(str(reports)),
            in_process=in_process,
        )
    except papermill.exceptions.PapermillExecutionError:
        assert found and found[0].exit_code
    return found[0]


def shape(reports: Path, archived: Archived) -> Any:
    """Return a bundle without what differs from run to run: its keys, files, cells and outputs."""
    assert archived.bundle
    folder = reports / archived.bundle.name
    content = json.loads((folder / "manifest.json").read_text("utf-8"))
    notebook = json.loads((folder / "report.ipynb").read_text("utf-8"))
    cells = [
        (
            cell["id"],
            cell["cell_type"],
            cell["source"],
            cell.get("execution_count"),
            [
                (output["output_type"], sorted(output.get("data", {})))
                for output in cell.get("outputs", [])
            ],
        )
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    checks = [(one["id"], one["expected"], one["observed"]) for one in content["checks"]]
    statements = [(one["title"], one["sql"], one["rows"]) for one in content["statements"]]
    proof = {key: content["proof"][key] for key in ("fingerprint_before", "fingerprint_after")}
    files = [one["name"] for one in content["files"]]
    return sorted(content), files, cells, checks, statements, proof, content["counts"]


def test_the_bundle_is_that_of_a_kernel(newest: Cluster, tmp_path: Path) -> None:
    found = []
    for in_process in (False, True):
        database = newest.sample()
        archived = execute(database, tmp_path / str(in_process), in_process=in_process)
        assert archived.record.exit_code == 0, archived.record.message
        found.append(shape(tmp_path / str(in_process), archived))
        newest.drop(database)
    with_kernel, without = found
    assert with_kernel[0] == without[0]
    for one, other in zip(with_kernel[1:], without[1:], strict=True):
        # The ledger's INSERT holds the run's own identifier and clock.
        assert _stable(one) == _stable(other)


def _stable(part: Any) -> Any:
    if isinstance(part, list) and part and isinstance(part[0], tuple) and len(part[0]) == 3:
        return [one for one in part if "ledger" not in str(one[0]).lower()]
    return part


def test_a_failure_is_reported_as_it_is(sample_newest: Database, tmp_path: Path) -> None:
    archived = execute(sample_newest, tmp_path, in_process=True, approved_plan="0" * 64)
    assert archived.record.outcome == "refused" and archived.record.error == "PlanDiffers"
    assert archived.bundle
    notebook = json.loads((tmp_path / archived.bundle.name / "report.ipynb").read_text("utf-8"))
    errors = [
        output
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]
    assert [one["ename"] for one in errors] == ["PlanDiffers"]
    assert not verify_archive(open_store(str(tmp_path))).faults
    assert sample_newest.value("SELECT count(*) FROM enrichment_logs") == 4052


def test_a_password_reaches_the_server_and_no_file(sample_newest: Database, tmp_path: Path) -> None:
    url = sample_newest.url.replace("://postgres@", "://postgres:kept-from-all@")
    assert "kept-from-all" in url
    archived = execute(sample_newest, tmp_path, in_process=True, database_url=url)
    assert archived.record.exit_code == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if b"kept-from-all" in path.read_bytes()] == []
