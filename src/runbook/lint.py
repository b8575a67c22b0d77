"""The linter squawk over a plan, and this project's answer to each of its rules.

Squawk (https://squawkhq.com) knows what hurts when SQL is run by hand on a database in use. It
looks at each statement alone; what the plan does around it is the answer.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from runbook.operations.base import warning
from runbook.plan import Plan
from runbook.vocabulary import Finding, Phase, Role

TIMEOUT_S = 30

ANSWERS: Mapping[str, str] = {
    "renaming-table": (
        "It is what the spec asks for. Both names can be had for a while with --old-name-view; "
        "who calls the old one is in the inventory."
    ),
    "renaming-object": (
        "No client calls an index or a constraint by its name, but ON CONFLICT ON CONSTRAINT "
        "and the application's models do: these follow the table."
    ),
    "ban-drop-default": (
        "The default is the migration's own, and lives no longer than it: it makes ADD COLUMN "
        "touch the catalog only."
    ),
    "ban-drop-function": (
        "The function is the migration's own: its trigger classifies what is written meanwhile, "
        "and is dropped before it."
    ),
    "require-concurrent-index-creation": (
        "Built in the one transaction that holds the table's lock anyway, for as long as the "
        "plan estimates; online it is built concurrently."
    ),
    "prefer-robust-stmts": (
        "The run looks at the index before and after: one that is there is compared by "
        "definition, a leftover of a failed try is dropped. IF NOT EXISTS would take an invalid "
        "index for done."
    ),
    "changing-column-type": (
        "One rewrite under the lock, chosen where most rows change anyway; the plan says how "
        "long it is likely to take, and online it does not happen."
    ),
    "require-lock-timeout": (
        "Only a label is added without one, to a type, which waits for nobody who reads or writes."
    ),
    "require-statement-timeout": (
        "Only a label is added without one, to a type, which takes milliseconds."
    ),
    "require-enum-value-ordering": (
        "A spec may only append labels, so the order of those that are there stays."
    ),
}
"""Squawk's rule → why it is well here, or what is accepted."""

_TRANSACTIONS = (Phase.ATOMIC, Phase.EXPAND, Phase.CUTOVER)
_LEFT_OUT = (Phase.ROLLBACK, Phase.CONTRACT, Phase.BACKFILL)
"""Run by commands of their own, or with parameters that squawk does not know."""

_CHANGING = (Role.SETTING, Role.LOCK, Role.CHANGE, Role.CONCURRENT)
"""What squawk has something to say about."""


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What squawk says by one of its rules."""

    rule: str
    message: str
    """Of the first statement that it is about."""
    statements: tuple[str, ...]
    """Titles of the statements that it is about."""
    answer: str | None
    """None where nobody has judged the rule yet."""


def find_squawk() -> str | None:
    """Return the linter's path, in this Python's environment or elsewhere; None where it is not
    installed."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.exists() else shutil.which("squawk")


def remarks(plan: Plan, version_number: int, program: str) -> tuple[Remark, ...]:
    """Return what squawk says of a plan, rule by rule.

    Raises `SubprocessError` or `ValueError` if it ends otherwise than with its findings.
    """
    lines = list(_script(plan))
    ended = subprocess.run(
        [
            *(program, "--reporter", "json", "--stdin-filepath", "plan.sql"),
            *("--pg-version", f"{version_number // 10_000}.0"),
        ],
        input="".join(f"{line}\n" for line, _ in lines),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if ended.returncode not in (0, 1):  # 1: it found something
        ended.check_returncode()
    found = json.loads(ended.stdout)
    return tuple(_by_rule(found, [title for _, title in lines]))


def _script(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the plan's statements as a script, line by line, each with its statement's title."""
    there = [one for one in plan.statements if one.phase not in _LEFT_OUT and one.role in _CHANGING]
    for phase, group in groupby(there, key=lambda one: one.phase):
        if phase in _TRANSACTIONS:
            yield "BEGIN;", ""
        for one in group:
            yield from ((line, one.title) for line in f"{one.sql};".splitlines())
        if phase in _TRANSACTIONS:
            yield "COMMIT;", ""


def _by_rule(found: Sequence[Mapping[str, object]], titles: list[str]) -> Iterator[Remark]:
    """Yield one remark a rule, in squawk's order."""
    for rule in dict.fromkeys(str(one["rule_name"]) for one in found):
        own = [one for one in found if one["rule_name"] == rule]
        # Of several lines it names the first, counted from 0.
        about = (titles[int(str(one["line"]))] for one in own)
        yield Remark(
            rule=rule,
            message=str(own[0]["message"]),
            statements=tuple(dict.fromkeys(about)),
            answer=ANSWERS.get(rule),
        )


def lint_findings(found: tuple[Remark, ...]) -> Iterator[Finding]:
    """Yield what squawk says and nobody has answered."""
    for one in found:
        if one.answer is None:
            yield warning(
                "lint-unanswered",
                one.rule,
                f"squawk says of {one.statements[0]!r}: {one.message}",
                "Look the rule up in squawk's documentation, and decide whether it matters here.",
            )
