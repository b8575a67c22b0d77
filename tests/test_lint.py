"""The linter: every rule that it names in a plan of ours has an answer, or is a finding."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from runbook.lint import ANSWERS, Remark, find_squawk, lint_findings, remarks
from runbook.plan import Plan, build_plan
from tests.cases import CASES, Case
from tests.conftest import Cluster
from tests.migrating import ATOMIC, ONLINE, catalog_of

SQUAWK = find_squawk() or ""


def plan_for(case: Case, cluster: Cluster, mode: str) -> Plan:
    """Return a case's plan, on a database of its own."""
    database = case.make(cluster)
    try:
        options = replace(ATOMIC if mode == "atomic" else ONLINE, **case.options)
        return build_plan(case.spec, catalog_of(database, case.spec), options)
    finally:
        cluster.drop(database)


@pytest.mark.parametrize("mode", ["atomic", "online"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_rule_that_a_plan_meets_is_answered(case: Case, mode: str, newest: Cluster) -> None:
    found = remarks(plan_for(case, newest, mode), 180_000, SQUAWK)
    assert [one.rule for one in found if one.answer is None] == []
    assert all(one.statements and all(one.statements) for one in found)
    assert "syntax-error" not in {one.rule for one in found}


def test_no_answer_is_kept_for_a_rule_that_no_plan_meets(newest: Cluster) -> None:
    met = {
        one.rule
        for case in CASES.values()
        for mode in ("atomic", "online")
        for one in remarks(plan_for(case, newest, mode), 180_000, SQUAWK)
    }
    assert met == set(ANSWERS)


def test_remarks_name_the_statements_that_they_are_about(newest: Cluster) -> None:
    found = remarks(plan_for(CASES["llamalog"], newest, "atomic"), 180_000, SQUAWK)
    about = {one.rule: one.statements for one in found}
    assert about["renaming-table"] == ("Rename the table to llama_logs",)
    assert about["ban-drop-default"] == ("Drop the default of category",)
    assert len(about["renaming-object"]) > 10


def test_a_rule_without_an_answer_is_a_warning() -> None:
    new = Remark(rule="brand-new", message="Mind.", statements=("Rename it",), answer=None)
    (finding,) = lint_findings((new, replace(new, rule="known", answer="It is well.")))
    assert (finding.code, finding.object) == ("lint-unanswered", "brand-new")


@pytest.mark.parametrize("program", ["false", "true", "sh"])
def test_a_linter_that_fails_is_an_error_and_no_clean_plan(program: str, newest: Cluster) -> None:
    path = shutil.which(program)
    assert path is not None
    with pytest.raises((subprocess.SubprocessError, ValueError)):
        remarks(plan_for(CASES["only enum"], newest, "atomic"), 180_000, path)
