"""A Dask scheduler that is there already: its workers know the databases, the command does not."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, Database
from tests.engine.running import eventually
from tests.notebook.papermilling import environment


@pytest.fixture
def two(newest: Cluster) -> Iterator[list[Database]]:
    made = [newest.sample(), newest.sample()]
    yield made
    for one in made:
        newest.drop(one)


@pytest.fixture
def scheduler(two: list[Database], tmp_path: Path) -> Iterator[str]:
    """A scheduler with one worker, whose environment has the URLs."""
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = {
        "scheduler": [*common, "--host", "127.0.0.1", "--port", "0"],
        "worker": [*common, "--nthreads", "2", "--no-nanny", "--host", "127.0.0.1"],
    }
    urls = {f"URL_{n}": one.url for n, one in enumerate(two)}
    running = []
    for name, options in commands.items():
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", name, *options],
                cwd=tmp_path,
                env=environment(**urls) if name == "worker" else environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        eventually(file.exists)
    yield str(json.loads(file.read_text("utf-8"))["address"])
    for process in reversed(running):
        process.terminate()
        process.wait(30)


def test_a_url_is_resolved_by_the_worker_alone(
    two: list[Database], scheduler: str, tmp_path: Path
) -> None:
    entries = "".join(f'[[target]]\nurl = "env:URL_{n}"\n' for n in range(len(two)))
    (tmp_path / "FLEET.toml").write_text(f'name = "remote"\n{entries}', "utf-8")
    command = [sys.executable, "-m", "runbook", "fleet", "--scheduler", scheduler, "--json"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    targets = json.loads(ended.stdout)["fleet"]["targets"]
    assert [(one["target"], one["outcome"]) for one in targets] == [
        ("URL_0", "succeeded"),
        ("URL_1", "succeeded"),
    ]
    for one in two:
        assert one.value("SELECT count(*) FROM llama_logs") == 4052


def test_no_scheduler_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "FLEET.toml").write_text('name = "f"\n[[target]]\nurl = "env:A"\n', "utf-8")
    nowhere = "tcp://127.0.0.1:1"
    command = [sys.executable, "-m", "runbook", "fleet", "--scheduler", nowhere]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "No Dask scheduler answers" in ended.stdout and "Traceback" not in ended.stderr
