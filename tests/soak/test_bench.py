"""The benchmark's commands as docs/performance.md names them, on few rows."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "options",
    [[], ["--mode=atomic", "--distribution=even"], ["--scale"]],
    ids=lambda options: " ".join(options) or "all",
)
def test_it_runs_and_no_bound_that_holds_for_few_rows_is_missed(options: list[str]) -> None:
    command = [sys.executable, "-m", "bench", "--rows=20000", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "MISSED" not in ended.stdout
