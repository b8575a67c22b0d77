"""The documentation: what it shows is what happens."""

import re
import tomllib
from collections.abc import Iterator
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


def commands(group: click.Group) -> Iterator[click.Command]:
    """Yield a group's commands and those of the groups in it."""
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


@pytest.mark.parametrize("command", list(commands(main)), ids=lambda command: command.name)
def test_every_command_and_option_has_a_help_text(command: click.Command) -> None:
    assert command.help and command.help.rstrip().endswith(".")
    for parameter in command.params:
        # Arguments are explained in the command's own text.
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert str(parameter.name).upper() in command.help


@pytest.mark.parametrize("group", ["archive"])
def test_every_command_of_a_group_is_documented(group: str) -> None:
    pages = README + "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    shown = set(re.findall(rf"runbook {group} ([a-z]+)", pages))
    named = main.commands[group]
    assert isinstance(named, click.Group) and shown == set(named.commands)


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
