"""The notebooks as files: thin, stripped, annotated, and in step with the command line."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runbook import parameters
from runbook.cli import main
from tests.notebook.papermilling import NOTEBOOKS, read

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE|DROP|LOCK TABLE|GRANT|TRUNCATE)\b", re.I
)
PARAMETER = re.compile(r'(\w+): (str|int|bool) = ("[^"=]*"|\d+|True|False)  # (\S[^"]*)')

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path: Path) -> list[Any]:
    """Return the code cells without the parameters."""
    return [
        cell
        for cell in read(path).cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]


def parameter_lines(path: Path) -> list[str]:
    """Return the lines of the one cell that is tagged `parameters`."""
    (cell,) = (c for c in read(path).cells if "parameters" in c.metadata.get("tags", []))
    return str(cell.source).splitlines()


def model(path: Path) -> type[parameters.Parameters]:
    """Return the parameters that the package expects of a notebook."""
    step = str(read(path).metadata.runbook.step)
    found: type[parameters.Parameters] = getattr(parameters, f"{step.capitalize()}Parameters")
    return found


def test_each_step_has_its_notebook() -> None:
    steps = {path.stem: str(read(path).metadata.runbook.step) for path in NOTEBOOKS}
    assert steps and all(name[3:] == step for name, step in steps.items())
    assert set(steps.values()) <= set(main.commands)


@every_notebook
def test_outputs_and_execution_counts_are_stripped(path: Path) -> None:
    for cell in read(path).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.id
        assert set(cell.metadata) <= {"tags"}, cell.id
    assert set(read(path).metadata) == {"kernelspec", "language_info", "runbook"}


@every_notebook
def test_it_has_10_to_16_cells(path: Path) -> None:
    assert 10 <= len(read(path).cells) <= 16


@every_notebook
def test_a_markdown_cell_stands_before_each_code_cell(path: Path) -> None:
    kinds = [(cell.cell_type, cell.id) for cell in read(path).cells]
    alone = [
        after
        for (before, _), (kind, after) in pairwise(kinds)
        if kind == "code" and before != "markdown"
    ]
    assert kinds[0][0] == "markdown" and alone == []


@every_notebook
def test_no_code_cell_is_longer_than_8_lines(path: Path) -> None:
    assert [cell.id for cell in code(path) if len(cell.source.splitlines()) > 8] == []


@every_notebook
def test_it_holds_no_definition_and_no_sql(path: Path) -> None:
    for cell in code(path):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
            ), cell.id
            assert not (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and SQL.search(node.value)
            ), cell.id


@every_notebook
def test_cell_ids_are_words_and_unique(path: Path) -> None:
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell_id) for cell_id in ids)


@every_notebook
def test_every_parameter_is_one_annotated_line_with_help(path: Path) -> None:
    assert [line for line in parameter_lines(path) if not PARAMETER.fullmatch(line)] == []


@every_notebook
def test_papermill_lists_every_parameter_with_its_help(path: Path) -> None:
    told = subprocess.run(
        [str(Path(sys.executable).with_name("papermill")), "--help-notebook", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    told = " ".join(told.split())
    for line in parameter_lines(path):
        match = PARAMETER.fullmatch(line)
        assert match, line
        name, kind, default, about = match.groups()
        assert f"{name}: {kind} (default {default}) {' '.join(about.split())}" in told


@every_notebook
def test_the_parameters_are_those_of_the_package(path: Path) -> None:
    given = {
        match[1]: ast.literal_eval(match[3])
        for match in map(PARAMETER.fullmatch, parameter_lines(path))
        if match
    }
    assert sorted(given) == sorted(model(path).model_fields)
    model(path).of(given)


@every_notebook
def test_the_defaults_are_those_of_the_command(path: Path) -> None:
    step = str(read(path).metadata.runbook.step)
    options = main.commands[step].make_context(step, []).params
    # The command looks for DATABASE_URL itself, and says so where it is not set.
    assert options.pop("database_url", None) is None
    del options["as_json"], options["debug"]
    given = {
        match[1]: ast.literal_eval(match[3])
        for match in map(PARAMETER.fullmatch, parameter_lines(path))
        if match
    }
    assert given.pop("database_url", "env:DATABASE_URL") == "env:DATABASE_URL"
    assert given == options
