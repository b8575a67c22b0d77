"""What a command loads: those that need no notebook start without papermill and its like."""

import re
import subprocess
import sys

from tests.conftest import Database

SLOW = {"papermill", "pandas", "matplotlib", "nbconvert", "nbformat", "IPython", "sqlalchemy"}
DRIVER = {"psycopg", "pydantic"}


def loaded(*arguments: str) -> set[str]:
    """Return the top packages that a command loads, as Python itself reports them."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "runbook", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    names = re.findall(r"^import time:.*\|\s+(\S+)$", ended.stderr, re.M)
    assert "runbook.cli.commands" in names
    return {name.partition(".")[0] for name in names}


def test_a_plan_is_made_without_loading_what_a_report_needs(sample_newest: Database) -> None:
    packages = loaded("plan", "--database-url", sample_newest.url)
    assert "psycopg" in packages
    assert packages & SLOW == set()


def test_help_is_shown_without_loading_what_a_report_needs() -> None:
    assert loaded("--help") & SLOW == set()
    assert loaded("migrate", "--help") & SLOW == set()


def test_help_is_shown_without_loading_the_driver() -> None:
    assert loaded("--help") & DRIVER == set()
