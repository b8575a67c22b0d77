"""How a fleet ends, by what became of its targets; and which plan is rolled out."""

import json
import zlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import Outcome
from runbook.fleet.ending import failed
from runbook.fleet.result import LEFT, Result
from runbook.fleet.rollout import Course
from runbook.fleet.survey import surveyed
from runbook.fleet.worker import Surveyed
from runbook.plan.model import canonical

OUTCOMES = [*Outcome, LEFT]
DONE = {"succeeded", "already-applied"}


def result(number: int, outcome: str) -> Result:
    code = 6 if outcome == LEFT else Outcome(outcome).exit_code
    name = f"t{number}"
    return Result(target=name, wave=1, outcome=outcome, exit_code=code, message=f"{name} so.")


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=12))
def test_the_exit_code_says_what_was_changed(outcomes: list[str]) -> None:
    results = [result(n, outcome) for n, outcome in enumerate(outcomes)]
    failure = failed(results, "", "Resume it.")
    open_ = [one for one in outcomes if one not in DONE]
    if not open_:
        assert failure is None
        return
    assert failure is not None
    left = "1 is left" if len(open_) == 1 else f"{len(open_)} are left"
    assert left in failure.message and "so." in failure.message
    if "check-failed" in open_:
        assert failure.exit_code == 4
    elif len(open_) < len(outcomes) or {"error", "stopped"} & set(open_):
        assert failure.exit_code == 6 and "Resume it." in failure.remedy
    elif "rolled-back" in open_:
        assert failure.exit_code == 5
    else:
        assert failure.exit_code == 3


@given(st.sampled_from([one for one in OUTCOMES if one not in DONE]), st.integers(1, 9))
def test_a_canary_that_fails_stops_it_whatever_may_fail_later(outcome: str, most: int) -> None:
    course = Course()
    course.note(result(0, outcome), most)
    assert "t0" in course.stopped
    later = Course()
    later.note(replace(result(0, outcome), wave=2), most)
    assert bool(later.stopped) == (outcome == "check-failed")


def of_plan(number: int, plan: str) -> Surveyed:
    content = {
        "migration": "m", "mode": "atomic", "spec_sha256": "s", "ledger_schema": "runbook",
        "facts": {"table": {"name": plan}}, "reasons": [], "statements": [],
    }  # fmt: skip
    assert json.loads(canonical(content)) == content
    return Surveyed(
        target=f"t{number}",
        plan=plan,
        mode="atomic",
        rows=10,
        packed=zlib.compress(canonical(content).encode()),
    )


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12))
def test_the_plan_of_most_is_rolled_out_and_the_others_say_how_they_differ(
    plans: list[str],
) -> None:
    found = surveyed([of_plan(n, plan) for n, plan in enumerate(plans)])
    assert found.main is not None
    assert len(found.main.targets) == max(plans.count(plan) for plan in plans)
    for other in found.apart:
        assert other.differences == (
            f"table.name was {found.main.sha256!r} and is {other.sha256!r}",
        )
    targets = [name for plan in found.plans for name in plan.targets]
    assert sorted(targets) == sorted(f"t{n}" for n in range(len(plans)))


def test_a_plan_that_was_rolled_out_before_stays_the_one() -> None:
    found = surveyed([of_plan(n, "b") for n in range(3)], wanted="a")
    assert found.main is None
    assert [plan.sha256 for plan in found.apart] == ["b"]
    assert found.apart_from_main("t1") is found.apart[0]
