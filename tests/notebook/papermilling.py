"""Running notebooks by bare papermill, as somebody does who never heard of the command."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def notebook(step: str) -> Path:
    """Return the notebook of a step."""
    (found,) = FOLDER.glob(f"0?_{step}.ipynb")
    return found


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of the person who runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "RUNBOOK_")) and name != "DATABASE_URL"
    }
    return kept | more


def papermill(
    source: Path, *arguments: str, cwd: Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Execute a notebook into `out.ipynb` in the working folder."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("papermill")), str(source), "out.ipynb", *arguments],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def bundles(cwd: Path) -> list[Path]:
    """Return the bundles below a working folder, in the order of their names."""
    return sorted(path.parent for path in cwd.glob("reports/*/manifest.json"))


def manifest(bundle: Path) -> dict[str, Any]:
    """Return a bundle's manifest."""
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text("utf-8"))
    return content


def read(path: Path) -> NotebookNode:
    """Return a notebook, checked against the format's schema."""
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    return found


def with_cell(source: Path, before: str, code: str, target: Path) -> Path:
    """Write a copy of a notebook with a code cell before the Markdown cell of another."""
    from nbformat.v4 import new_code_cell

    changed = read(source)
    place = next(n for n, cell in enumerate(changed.cells) if cell.id == f"{before}-about")
    changed.cells.insert(place, new_code_cell(code, id="inserted"))
    nbformat.write(changed, target)
    return target
