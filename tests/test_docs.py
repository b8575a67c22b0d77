"""The documentation: what it shows is what happens."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
import pytest

from runbook.cli import main
from runbook.errors import Outcome
from runbook.fleet.file import Rollout, Source, read_fleet
from runbook.parameters import (
    MigrateParameters,
    PlanParameters,
    RehearseParameters,
    RollbackParameters,
    TargetParameters,
)
from runbook.plan import build_plan
from runbook.rehearsal.copy import Place
from runbook.spec import parse_spec
from runbook.vocabulary import Lock, Phase
from tests.cases import CASES
from tests.conftest import Cluster, Database
from tests.migrating import ATOMIC, catalog_of, migrate
from tests.migrating import ONLINE as ONLINE_MODE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SPECS = (ROOT / "docs" / "specs.md").read_text()
ONLINE = (ROOT / "docs" / "online.md").read_text()
LOCKS = (ROOT / "docs" / "locks.md").read_text()
REHEARSAL = (ROOT / "docs" / "rehearsal.md").read_text()
FLEET = (ROOT / "docs" / "fleet.md").read_text()
ROLLBACK = (ROOT / "docs" / "rollback.md").read_text()
PAGES = README + "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))


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


@pytest.mark.parametrize("group", ["archive", "export"])
def test_every_command_of_a_group_is_documented(group: str) -> None:
    shown = set(re.findall(rf"runbook {group} ([a-z]+)", PAGES))
    named = main.commands[group]
    assert isinstance(named, click.Group) and shown == set(named.commands)


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    assert {outcome.exit_code for outcome in Outcome} | {2} == documented


def test_every_exit_code_of_a_page_is_one() -> None:
    codes = {outcome.exit_code for outcome in Outcome} | {2}
    for code in re.findall(r"^\| (\d) \|", PAGES, re.MULTILINE):
        assert int(code) in codes


def table(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table below a heading, by their first cell."""
    below = page.split(f"\n## {heading}\n")[1]
    lines = re.findall(r"^\| (.*) \|$", below.split("\n## ")[0], re.MULTILINE)
    return {cells[0]: cells[1:] for cells in (line.split(" | ") for line in lines)}


def shown(default: object) -> str:
    """Return an option's default as the page shows it."""
    if isinstance(default, bool):
        return "off" if not default else "on"
    return f"{default:,}" if isinstance(default, int) else f"`{default}`" if default else "none"


def test_every_setting_of_a_migration_is_documented_with_its_default() -> None:
    settings = table(ONLINE, "Settings")
    options = main.commands["migrate"].make_context("migrate", []).params
    defaults = options | {"database_url": "DATABASE_URL"}
    found = {name.strip("`"): cells[0] for name, cells in settings.items()}
    assert {name: found.get(name) for name in MigrateParameters.model_fields} == {
        name: shown(defaults[name]) for name in MigrateParameters.model_fields
    }


def test_every_setting_of_a_rollback_is_documented_with_its_default() -> None:
    settings = table(ROLLBACK, "Settings")
    defaults = main.commands["rollback"].make_context("rollback", []).params
    own = set(RollbackParameters.model_fields) - set(TargetParameters.model_fields)
    found = {name.strip("`"): cells[0] for name, cells in settings.items() if "`" in name}
    assert found == {name: shown(defaults[name]) for name in own}


def test_every_setting_of_a_rehearsal_is_documented_with_its_default() -> None:
    settings = table(REHEARSAL, "Settings")
    defaults = main.commands["rehearse"].make_context("rehearse", []).params
    own = set(RehearseParameters.model_fields) - set(PlanParameters.model_fields)
    found = {name.strip("`"): cells[0] for name, cells in settings.items() if "`" in name}
    assert found == {name: shown(defaults[name]) for name in own}
    places = {name.strip("`").split("`")[0] for name in table(REHEARSAL, "Where the copy is made")}
    assert set(get_args(Place)) <= places


def test_every_reason_to_refuse_a_rollback_is_documented() -> None:
    named = set(re.findall(r"`([a-z-]+)`", " ".join(table(ROLLBACK, "When it refuses"))))
    sources = [*(ROOT / "src/runbook/run/wayback").glob("*.py")]
    text = "".join(file.read_text() for file in sources)
    assert named == set(re.findall(r'blocker\(\s+"([a-z-]+)"', text))


def test_what_a_rollback_says_of_the_rows_is_what_the_page_says() -> None:
    source = (ROOT / "src/runbook/run/wayback/proof.py").read_text()
    said = re.sub(r'"\s*\n\s*f?"', "", source)
    told = [*table(ROLLBACK, "What the proof means")][1:]
    assert len(told) == 5
    for verdict in told:
        assert verdict.rstrip(" …") in said, verdict


def test_every_phase_of_the_online_mode_is_documented_in_order() -> None:
    phases = [name for name in table(ONLINE, "The phases") if name in set(Phase)]
    assert phases == [phase for phase in Phase if phase not in {Phase.ATOMIC, Phase.ROLLBACK}]


def test_what_an_online_run_says_when_it_stops_is_what_the_page_says() -> None:
    package = ROOT / "src" / "runbook"
    files = [package / "errors.py", *(package / "run").rglob("*.py")]
    sources = "".join(file.read_text() for file in files)
    said = re.sub(r'"\s*\n\s*f?"', "", sources).lower()
    told = re.findall(r"^\| (.*?) \|", ONLINE.split("Why it stops")[1].split("\n## ")[0], re.M)[1:]
    assert len(told) > 5
    for text in "; ".join(told).split("; "):
        words = (re.escape(part.strip(" :,")) for part in text.split("…"))
        assert re.search(r"[^\n]{0,60}?".join(words), said), text


PAPERMILL = {"--prepare-only"}
"""Options of papermill that the pages name."""


def test_every_option_that_a_page_names_exists() -> None:
    lines = re.findall(r"^\$ runbook .*(?:\\\n.*)*", PAGES, re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(re.findall("`[^`\n]+`", PAGES))))
    named |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(lines)))
    known = {option for command in commands(main) for p in command.params for option in p.opts}
    assert named <= known | bench_options() | PAPERMILL


def bench_options() -> set[str]:
    """Return the options of the benchmarks."""
    told = ""
    for module in ("bench", "bench.notebook"):
        command = [sys.executable, "-m", module, "--help"]
        told += subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z][a-z-]+", told))


def test_every_make_target_and_variable_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    calls = re.findall(r"(?:`|\$ )make ([a-z-]+)((?: [A-Z]+=[^ `\n]+)*)", PAGES)
    assert calls and {target for target, _ in calls} <= targets
    for _, variables in calls:
        for name in re.findall(r"([A-Z]+)=", variables):
            assert f"$({name})" in makefile, name


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("https://"):
            place, _, anchor = link.partition("#")
            assert (page.parent / place).exists(), link
            if anchor:
                text = (page.parent / place).read_text()
                headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
                assert anchor in {one.lower().replace(" ", "-") for one in headings}, link


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


def test_the_page_on_locks_has_every_lock_and_says_what_it_blocks() -> None:
    described = re.findall(r"^\| ([A-Z ]+) \| (blocks .*) \|$", LOCKS, re.MULTILINE)
    assert described == [(lock.value, lock.blocks) for lock in Lock if lock is not Lock.NONE]


@pytest.mark.parametrize("mode", ["atomic", "online"])
@pytest.mark.parametrize("name", CASES)
def test_every_lock_of_a_plan_is_on_the_page(name: str, mode: str, newest: Cluster) -> None:
    case = CASES[name]
    database = case.make(newest)
    options = replace(ATOMIC if mode == "atomic" else ONLINE_MODE, **case.options)
    plan = build_plan(case.spec, catalog_of(database, case.spec), options)
    newest.drop(database)
    for statement in plan.statements:
        section = LOCKS.split(f"\n## {SECTIONS.get(statement.phase, 'Online')}")[1].split("\n## ")[
            0
        ]
        assert statement.lock is Lock.NONE or statement.lock.value in section.replace("\n", " "), (
            statement.title
        )


SECTIONS = {
    Phase.ATOMIC: "Atomic",
    Phase.CONTRACT: "Contract",
    Phase.ROLLBACK: "Contract",
}


def test_the_fleets_file_on_the_page_is_one_and_shows_every_setting_with_its_default(
    tmp_path: Path,
) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", FLEET, re.DOTALL)
    path = tmp_path / "FLEET.toml"
    path.write_text(block, "utf-8")
    found = read_fleet(str(path))
    assert found.rollout == Rollout()
    assert set(tomllib.loads(block)["rollout"]) == set(Rollout.model_fields)
    kinds = [{name for name in Source.model_fields if getattr(one, name)} for one in found.targets]
    assert set.union(*kinds) == set(Source.model_fields)
