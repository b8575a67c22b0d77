"""The tutorial: its files are written, its commands run in their order, and say what it shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Database

PAGE = (Path(__file__).parents[1] / "docs" / "own-migration.md").read_text("utf-8")
FILES = dict(re.findall(r"Save it as `([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))


def steps() -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that the page shows of what it says."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = step.rstrip("\n").split("\n")
            yield command, [line for line in shown if line.strip("… ")]


@pytest.fixture
def shell(empty_newest: Database, tmp_path: Path) -> dict[str, str]:
    """An environment in which `runbook` and `psql` are on the path, as the page asks."""
    commands = tmp_path / "bin"
    commands.mkdir()
    runbook = commands / "runbook"
    runbook.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runbook "$@"\n')
    runbook.chmod(0o755)
    path = f"{commands}:{empty_newest.binaries}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DATABASE_URL": empty_newest.url, "PGTZ": "UTC"}


def test_the_tutorial_leads_to_a_migration_of_ones_own(
    shell: dict[str, str], tmp_path: Path
) -> None:
    assert set(FILES) == {"tickets.sql", "tickets.toml"}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for command, shown in steps():
        ended = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=shell,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        said = (ended.stdout + ended.stderr).splitlines()
        for line in shown:
            pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
            assert any(re.search(pattern, one) for one in said), f"{command}\n{line}\n{said}"
