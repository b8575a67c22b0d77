"""Bare papermill: the same run, the same bundle and the same refusals as the command's."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psycopg
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from runbook.embedded import Server
from runbook.sample import load_sample
from tests.conftest import Database
from tests.notebook.papermilling import (
    bundles,
    manifest,
    notebook,
    papermill,
    read,
    with_cell,
)
from tests.state import database_state

PASSWORD = "correct horse %41 battery"


def run(step: str, database: Database, folder: Path) -> dict[str, Any]:
    """Run a step's notebook in a folder; return the manifest of its bundle, the executed notebook
    being complete."""
    known = set(bundles(folder))
    ended = papermill(
        notebook(step),
        *("-p", "database_url", "env:DATABASE_URL"),
        cwd=folder,
        env={"DATABASE_URL": database.url},
    )
    assert ended.returncode == 0, ended.stderr
    (bundle,) = set(bundles(folder)) - known
    content = manifest(bundle)
    assert bundle.name.endswith(f"-llamalog-{step}-{content['outcome']}")
    assert f"{content['outcome']}: {content['message']}" in ended.stderr
    assert str(bundle / "report.html") in ended.stderr
    assert_complete(read(folder / "out.ipynb"))
    return content


def assert_complete(output: NotebookNode) -> None:
    """Hold that every cell ran, in order, and none failed."""
    ran = [cell for cell in output.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    assert output.metadata.papermill.exception is None
    for cell in output.cells:
        assert cell.metadata.papermill.status == "completed"
        assert not cell.metadata.papermill.exception
        assert all(one.output_type != "error" for one in cell.get("outputs", []))
    assert all(cell.outputs for cell in ran if "parameters" not in str(cell.metadata.tags))


def test_a_database_is_reviewed_migrated_left_alone_and_verified(
    sample_newest: Database, tmp_path: Path
) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        review = run("review", sample_newest, tmp_path)
        assert database_state(connection) == before
        first = run("migrate", sample_newest, tmp_path)
        migrated = database_state(connection)
        again = run("migrate", sample_newest, tmp_path)
        verified = run("verify", sample_newest, tmp_path)
        assert database_state(connection) == migrated
    told = [(one["outcome"], one["exit_code"]) for one in (review, first, again, verified)]
    assert told == [("succeeded", 0), ("succeeded", 0), ("already-applied", 0), ("succeeded", 0)]
    assert first["plan"] == review["plan"]
    assert review["previous_manifest_sha256"] is None
    assert first["run_id"] in again["message"]
    assert again["statements"] == [] and again["plan"] is None
    for later in (again, verified):
        assert [check["id"] for check in later["checks"]] == [c["id"] for c in first["checks"]]
        assert all(check["passed"] for check in later["checks"])
        assert later["parameters"]["database_url"] == "env:DATABASE_URL"
    assert sample_newest.value("SELECT to_regclass('enrichment_logs')") is None
    assert sample_newest.value("SELECT array_agg(run_id::text) FROM runbook.ledger") == [
        first["run_id"]
    ]


REFUSED = [
    (
        "database_url misspelt",
        ["-p", "databse_url", "env:ELSEWHERE"],
        "There is no parameter 'databse_url'.",
    ),
    ("mode misspelt", ["-p", "modee", "atomic"], "There is no parameter 'modee'."),
    ("hash as a number", ["-p", "approved_plan", "0012"], "Parameter 'approved_plan': "),
]


@pytest.mark.parametrize(("arguments", "message"), [r[1:] for r in REFUSED],
                         ids=[r[0] for r in REFUSED])  # fmt: skip
def test_a_wrong_parameter_is_refused_before_anything_is_touched(
    arguments: list[str], message: str, sample_newest: Database, tmp_path: Path
) -> None:
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = papermill(
            notebook("migrate"),
            *arguments,
            cwd=tmp_path,
            env={"DATABASE_URL": sample_newest.url},
        )
        assert database_state(connection) == before
    assert ended.returncode == 2
    # What is archived, and what is said last, must not call a refusal a kernel that died.
    assert f"refused: {message}" in ended.stderr and "Traceback" not in ended.stderr
    assert "kernel ended" not in ended.stderr
    assert [manifest(bundle)["outcome"] for bundle in bundles(tmp_path)] in ([], ["refused"])


def test_without_a_database_nothing_is_run(tmp_path: Path) -> None:
    ended = papermill(notebook("migrate"), cwd=tmp_path, env={})
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "refused: The environment variable 'DATABASE_URL'" in ended.stderr
    assert "kernel ended" not in ended.stderr


def test_an_archive_that_cannot_be_written_is_told_before_anything_is_run(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file, no folder")
    ended = papermill(notebook("migrate"), cwd=tmp_path, env={})
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert f"cannot be written into {tmp_path / 'reports'}" in ended.stderr
    assert "Nothing was changed" in ended.stderr and not (tmp_path / "out.ipynb").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on TCP that wants a password, with the sample data."""
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        Path(folder).chmod(0o755)
        server = Server(
            Path(folder) / "tcp", password=PASSWORD, settings={"fsync": "off"}
        ).acquire()
        with psycopg.connect(server.conninfo()) as connection:
            load_sample(connection)
        yield server
        server.destroy()


def assert_unwritten(folder: Path, *more: str) -> None:
    """Hold that no file below a folder, and no text, holds the password."""
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"out.ipynb", "report.ipynb", "report.html", "manifest.json"} <= {
        path.name for path in written
    }
    for text in [*more, *(path.read_text("utf-8") for path in written)]:
        assert "horse" not in text and "battery" not in text


def test_a_password_given_by_p_is_written_nowhere(server: Server, tmp_path: Path) -> None:
    review = papermill(
        notebook("review"), "-p", "database_url", server.tcp_url(), cwd=tmp_path, env={}
    )
    assert review.returncode == 0, review.stderr
    assert_unwritten(tmp_path, review.stdout, review.stderr)
    assert manifest(bundles(tmp_path)[0])["database"]["host"] == "127.0.0.1"


def test_a_password_is_written_nowhere_when_a_cell_fails(server: Server, tmp_path: Path) -> None:
    broken = with_cell(
        notebook("migrate"), "apply", "%xmode Verbose\nrun.open().execute('no')", tmp_path / "b"
    )
    ended = papermill(broken, "-p", "database_url", server.tcp_url(), cwd=tmp_path, env={})
    assert ended.returncode != 0 and "SyntaxError" in ended.stderr
    assert_unwritten(tmp_path, ended.stdout, ended.stderr)


def stock(folder: Path) -> Path:
    """Write somebody else's notebook: parameters, a result, no metadata of ours."""
    theirs = new_notebook(
        cells=[
            new_code_cell("x: int = 1", id="a", metadata={"tags": ["parameters"]}),
            new_code_cell("print('x is', x)", id="b"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}},
    )
    nbformat.write(theirs, folder / "theirs.ipynb")
    return folder / "theirs.ipynb"


def test_another_notebook_runs_as_ever_and_leaves_no_bundle(tmp_path: Path) -> None:
    ended = papermill(stock(tmp_path), "-p", "x", "7", "-p", "unknown", "1", cwd=tmp_path, env={})
    assert ended.returncode == 0, ended.stderr
    output = read(tmp_path / "out.ipynb")
    assert output.metadata.papermill.parameters == {"x": 7, "unknown": 1}
    assert output.cells[-1].outputs[0].text == "x is 7\n"
    assert {path.name for path in tmp_path.iterdir()} == {"theirs.ipynb", "out.ipynb"}


def test_a_runbook_that_cannot_be_loaded_leaves_other_notebooks_alone(tmp_path: Path) -> None:
    """Papermill imports every engine at its start; an error there would end all notebooks."""
    hurdle = tmp_path / "hurdle"
    hurdle.mkdir()
    (hurdle / "psycopg.py").write_text("raise ImportError('no pq wrapper available')\n")
    search = os.pathsep.join(filter(None, [str(hurdle), os.environ.get("PYTHONPATH")]))
    ended = papermill(stock(tmp_path), cwd=tmp_path, env={"PYTHONPATH": search})
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "code", ["import os; os._exit(1)", "import sys; sys.exit(0)"], ids=["dies", "leaves"]
)
def test_a_kernel_that_ends_midway_is_a_failure(
    code: str, sample_newest: Database, tmp_path: Path
) -> None:
    broken = with_cell(notebook("migrate"), "apply", code, tmp_path / "broken.ipynb")
    with sample_newest.connect() as connection:
        before = database_state(connection)
        ended = papermill(broken, cwd=tmp_path, env={"DATABASE_URL": sample_newest.url})
        assert database_state(connection) == before
    (bundle,) = bundles(tmp_path)
    content = manifest(bundle)
    assert (content["outcome"], content["exit_code"]) == ("error", 1)
    assert bundle.name.endswith("-llamalog-migrate-error")
    assert content["step"] == "migrate"
    cells = [
        (c.id, c.execution_count) for c in read(bundle / "report.ipynb").cells if "outputs" in c
    ]
    after = cells.index(next(cell for cell in cells if cell[0] == "inserted")) + 1
    assert len(cells) > after and all(count is None for _, count in cells[after:])
    assert ended.returncode != 0, ended.stderr
