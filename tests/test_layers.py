"""Imports point one way, upstream only; what is slow to load is loaded in one place."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "runbook"

ORDER: tuple[tuple[str, ...], ...] = (
    (
        "",
        "bounded",
        "collector",
        "errors",
        "facts",
        "findings",
        "numbers",
        "placed",
        "secrets",
        "sql",
        "visible",
        "vocabulary",
    ),
    ("trust",),
    ("models", "sample"),
    ("embedded",),
    ("database",),
    ("operations",),
    ("spec",),
    ("catalog",),
    ("plan",),
    ("lint", "export"),
    ("run",),
    ("verify",),
    ("rehearsal",),
    ("parameters", "record"),
    ("report",),
    ("archive",),
    ("notebook",),
    ("engine",),
    ("fleet",),
    ("cli",),
    ("__main__",),
)
"""The parts of the package; each imports from itself, its row and the rows above it alone.

`""` is the package itself, which holds the version and nothing else.
"""

ALLOWED: frozenset[tuple[str, str]] = frozenset()
"""Exceptions, each a file and the module that it imports: none."""

ALONE = {
    "pandas": ("report/",),
    "matplotlib": ("report/",),
    "IPython": ("report/", "notebook/", "engine/inprocess.py"),
    "nbconvert": ("report/",),
    "nbformat": ("report/", "engine/"),
    "jinja2": ("report/",),
    "pygments": ("report/",),
    "weasyprint": ("report/",),
    "papermill": ("engine/", "fleet/worker.py", "cli/execute.py"),
    "distributed": ("fleet/cluster.py",),
    "sqlalchemy": ("models/", "verify/models.py", "verify/drift.py", "record.py"),
    "alembic": ("verify/drift.py", "export/alembic.py"),
    "click": ("cli/", "engine/failure.py"),
}
"""What is loaded in few places only, and where."""

RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            if node.module == "runbook":
                yield from (_whole(alias.name) for alias in node.names)
            else:
                yield node.module


def _whole(name: str) -> str:
    """Return what `from runbook import name` loads: a module, or the package itself."""
    is_module = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return f"runbook.{name}" if is_module else "runbook"


def part(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    return module.removeprefix("runbook").removeprefix(".").partition(".")[0]


def place(path: Path) -> str:
    """Return a file as its path below the package."""
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_upstream_only(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    own = "" if own == "__init__" else own
    assert own in RANK, f"say in ORDER where {own!r} stands"
    against = [
        module
        for module in imports(path)
        if module.partition(".")[0] == "runbook"
        and RANK[part(module)] > RANK[own]
        and (place(path), module) not in ALLOWED
    ]
    assert against == []


@pytest.mark.parametrize("library", ALONE)
def test_a_library_is_imported_where_it_belongs_alone(library: str) -> None:
    found = {
        place(path)
        for path in FILES
        if any(module.partition(".")[0] == library for module in imports(path))
    }
    assert {file for file in found if not file.startswith(ALONE[library])} == set()
    assert found, f"nothing imports {library} any more"


def test_whatever_is_imported_is_named_among_the_dependencies() -> None:
    """What another package happens to bring may be gone with its next version."""
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    named = [project["dependencies"], *project["optional-dependencies"].values()]
    listed = {re.split(r"[^\w.-]", one)[0] for requirements in named for one in requirements}
    imported = {module.partition(".")[0] for path in FILES for module in imports(path)}
    providers = packages_distributions()
    unlisted = {
        module
        for module in imported - {"runbook"} - sys.stdlib_module_names
        if not {name.lower().replace("_", "-") for name in providers[module]} & listed
    }
    assert unlisted == set()
