"""Code, page and prepared databases agree on which findings there are, and at which levels."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from runbook.findings import WHY
from tests.plan.review.prepared import PREPARED

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "src" / "runbook"
PAGE = (ROOT / "docs" / "findings.md").read_text("utf-8")
LEVELS = ("blocker", "warning", "note")

ELSEWHERE = {
    "server-too-old": "tests/plan/review/test_facts.py",
    "wraparound-near": "tests/plan/review/test_facts.py",
    "disk-short": "tests/plan/review/test_facts.py",
    "disk-unknown": "tests/plan/review/test_facts.py",
    "replica-late": "tests/plan/review/test_facts.py",
    "replica-conflicts": "tests/plan/review/test_replica.py",
    "no-synchronous-standby": "tests/plan/review/test_replica.py",
    "statements-in-use": "tests/plan/review/test_statements.py",
    "pooler": "tests/plan/review/test_pooler.py",
}
"""What no SQL on a shared server prepares: each with the test that has it."""


def given() -> Iterator[tuple[Path, str, str]]:
    """Yield file, code and level of every finding that the package can give."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield from ((path, code, level) for code, level in _findings(node))


def _findings(call: ast.Call) -> Iterator[tuple[str, str]]:
    """Yield the codes and levels of a call of `blocker`, `warning` or `note`, or of a choice of
    them; and of `Finding` itself."""
    levels = _functions(call.func) & {*LEVELS}
    codes = _texts(call.args[0]) if call.args else set()
    if isinstance(call.func, ast.Name) and call.func.id == "Finding":
        named = {one.arg: one.value for one in call.keywords}
        codes = _texts(named["code"]) if "code" in named else set()
        levels = {
            one.attr.lower() for one in ast.walk(named["level"]) if isinstance(one, ast.Attribute)
        } if codes else set()  # fmt: skip
    yield from ((code, level) for code in codes for level in levels)


def _functions(node: ast.expr) -> set[str]:
    """Return the names of the functions that may be called."""
    if isinstance(node, ast.IfExp):
        return _functions(node.body) | _functions(node.orelse)
    return {node.id} if isinstance(node, ast.Name) else set()


def _texts(node: ast.expr) -> set[str]:
    """Return the texts that an expression may be; those that a condition compares are none."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def sections() -> dict[str, str]:
    """Return the page's sections: code → text in one line."""
    parts = re.split(r"^### `([a-z-]+)`$", PAGE, flags=re.MULTILINE)
    texts = (
        " ".join(re.split(r"^## ", part, flags=re.MULTILINE)[0].split()) for part in parts[2::2]
    )
    return dict(zip(parts[1::2], texts, strict=True))


def test_every_finding_has_its_section_and_no_section_is_left_over() -> None:
    assert list(sections()) == list(dict.fromkeys(sections()))
    assert set(sections()) == set(WHY)


def test_a_section_says_why_it_matters_in_the_words_of_the_report() -> None:
    assert {code for code, text in sections().items() if WHY[code] not in text} == set()


def test_a_section_names_the_levels_that_the_finding_is_given_at() -> None:
    found = list(given())
    assert len(found) > len(WHY)
    unnamed = {
        (code, level)
        for _, code, level in found
        if level not in sections()[code].partition(". ")[0].lower()
    }
    assert unnamed == set()


def test_every_finding_of_the_review_is_met_on_a_prepared_database_or_a_server_of_its_own() -> None:
    reviewed = {code for path, code, _ in given() if path.parts[-2] in {"operations", "review"}}
    met = {one.partition(" ")[2] for case in PREPARED.values() for one in case.finds}
    assert reviewed - met == set(ELSEWHERE) & reviewed
    assert len(PREPARED) >= 60
    for code, file in ELSEWHERE.items():
        assert f'"{code}"' in (ROOT / file).read_text("utf-8")
