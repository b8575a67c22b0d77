"""A checkout of strangers: what lies in the current folder is data, and is not imported."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.notebook.papermilling import bundles, environment, notebook
from tests.trust.owners import Owned, owned

TRAPS = (
    "ipykernel_launcher", "sitecustomize", "usercustomize", "runbook", "psutil", "psycopg", "numpy",
    "pandas", "matplotlib", "IPython", "zmq", "nbconvert", "sqlalchemy", "alembic", "numexpr",
    "multiprocessing", "pickle", "socket", "distributed", "cloudpickle", "debugpy", "uvloop",
    "pyarrow", "tornado", "json", "logging", "asyncio", "boto3", "s3fs", "squawk",
)  # fmt: skip
"""Libraries that are there, and some that a library tries to import in case they are."""

FLEET = """
name = "tenants"
spec = "sorting.toml"
[[target]]
name = "one"
url = "env:DATABASE_URL"
"""


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


def lay_traps(place: Owned, *names: str) -> Path:
    """Lay modules into the current folder that note that they were imported; return where."""
    trace = place.folder / "imported"
    for name in names:
        code = (
            "import sys\n"
            f"open({str(trace)!r}, 'a').write('{name} in ' + ' '.join(sys.argv)[:80] + chr(10))\n"
            f"raise ImportError('{name}')\n"
        )
        (place.folder / f"{name}.py").write_text(code, "utf-8")
    return trace


def run(place: Owned, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder, as the scripts that pip installs do: without it on the path."""
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=place.folder,
        env=environment(DATABASE_URL=place.urls()),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_no_command_imports_what_lies_in_the_current_folder(place: Owned) -> None:
    trace = lay_traps(place, *TRAPS)
    ended = run(place, "-m", "runbook", "migrate", "--spec", "sorting.toml")
    assert not trace.exists(), trace.read_text("utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_no_worker_of_a_fleet_does(place: Owned) -> None:
    (place.folder / "FLEET.toml").write_text(FLEET, "utf-8")
    trace = lay_traps(place, *TRAPS)
    ended = run(place, "-m", "runbook", "fleet", "FLEET.toml")
    assert not trace.exists(), trace.read_text("utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.soak
def test_no_notebook_does_that_papermill_runs_by_itself(place: Owned) -> None:
    trace = lay_traps(place, *TRAPS)
    given = ("-p", "spec", "sorting.toml")
    ended = run(place, "-m", "papermill", str(notebook("review")), "out.ipynb", *given)
    assert not trace.exists(), trace.read_text("utf-8")
    assert ended.returncode == 0 and bundles(place.folder), ended.stderr


def test_no_settings_of_charts_are_read_from_it(tmp_path: Path) -> None:
    """A `matplotlibrc` there could hide what a chart says."""
    (tmp_path / "matplotlibrc").write_text("text.color: white\nxtick.color: white\n", "utf-8")
    shown = "import runbook.report.chart, matplotlib, os; "
    shown += "print(matplotlib.rcParams['text.color'], os.getcwd())"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", shown],
        cwd=tmp_path,
        env=environment(MPLCONFIGDIR=str(tmp_path / "none")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["black", str(tmp_path)]


def test_python_itself_puts_the_folder_first_and_the_command_takes_it_out(place: Owned) -> None:
    """`python -m runbook` looks there for the package; for nothing else afterwards."""
    trace = lay_traps(place, *(name for name in TRAPS if name not in {"runbook", "click"}))
    ended = place.run("status", "--spec", "sorting.toml")
    assert not trace.exists(), trace.read_text("utf-8")
    assert ended.returncode == 0, ended.stderr
