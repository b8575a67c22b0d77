"""The Kubernetes manifests of the documentation: their commands, variables and exit codes hold."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.archive.keys import VARIABLE
from runbook.cli import main
from runbook.errors import Outcome

FOLDER = Path(__file__).parents[1] / "docs" / "kubernetes"
PAGE = (FOLDER.parent / "schedulers.md").read_text("utf-8")
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


def job(path: Path) -> dict[str, Any]:
    """Return the Job, or that of a CronJob."""
    spec = yaml.safe_load(path.read_text("utf-8"))["spec"]
    found: dict[str, Any] = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    return found


def container(path: Path) -> dict[str, Any]:
    """Return the one container."""
    (found,) = job(path)["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_arguments_are_a_command_that_is_there(path: Path) -> None:
    name, *arguments = container(path)["args"]
    given = main.commands[name].make_context(name, list(arguments)).params
    assert given["database_url"] == "env:DATABASE_URL"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_variable_that_is_referred_to_is_set_and_secrets_come_from_secrets(
    path: Path,
) -> None:
    variables = {one["name"]: one for one in container(path)["env"]}
    said = " ".join(
        [*container(path)["args"], *(str(one.get("value")) for one in variables.values())]
    )
    named = set(re.findall(r"env:(\w+)", said)) | set(re.findall(r"\$\((\w+)\)", said))
    assert named <= set(variables)
    for name in re.findall(r"env:(\w+)", said):
        assert "secretKeyRef" in variables[name]["valueFrom"]
    assert set(variables) - named <= {"RUNBOOK_OPERATOR", VARIABLE}


def test_each_exit_code_does_what_the_page_says() -> None:
    rules = job(FOLDER / "migrate-job.yaml")["podFailurePolicy"]["rules"]
    actions = {
        code: rule["action"]
        for rule in rules
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    codes = {outcome.exit_code for outcome in Outcome} | {2}
    assert set(actions) == codes - {0}
    said = dict(re.findall(r"^\| (\d) \| (fails|tries again|is done)", PAGE, re.MULTILINE))
    expected = {"FailJob": "fails", "Count": "tries again"}
    assert said == {"0": "is done"} | {str(code): expected[do] for code, do in actions.items()}
    again = {Outcome.ROLLED_BACK.exit_code, Outcome.STOPPED.exit_code}
    assert {code for code, action in actions.items() if action == "Count"} == again
