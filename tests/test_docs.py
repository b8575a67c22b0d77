"""The documentation: what it shows is what happens."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from runbook.cli import main
from runbook.errors import Outcome
from runbook.spec import parse_spec
from tests.conftest import Database
from tests.migrating import migrate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SPECS = (ROOT / "docs" / "specs.md").read_text()


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    shown = set(re.findall(r"runbook ([a-z]+)", README))
    assert set(main.commands) <= shown | {"demo"}
    assert shown <= set(main.commands)


@pytest.mark.parametrize("name", main.commands)
def test_every_option_has_a_help_text(name: str) -> None:
    for parameter in main.commands[name].params:
        assert isinstance(parameter, click.Option)
        assert parameter.help, parameter.name


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    assert {outcome.exit_code for outcome in Outcome} | {2} == documented


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", README)) <= targets


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_example_spec_runs(empty_newest: Database) -> None:
    example = re.findall(r"```toml\n(.*?)```", SPECS, re.DOTALL)[0]
    empty_newest.execute(
        "CREATE TABLE tickets (state text)",
        "INSERT INTO tickets VALUES ('open'), ('Open again'), ('done'), (NULL)",
    )
    applied = migrate(empty_newest, parse_spec(example, file="specs.md"))
    assert applied.after.categories == {"open": 2, "closed": 1, "unknown": 1}


def test_every_toml_block_is_toml() -> None:
    for block in re.findall(r"```toml\n(.*?)```", SPECS, re.DOTALL):
        assert tomllib.loads(block)
