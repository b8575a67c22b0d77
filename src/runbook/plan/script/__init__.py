"""The plan as a script that psql runs to the same end state, ledger row and proof included."""

from collections.abc import Iterator

from runbook import __version__
from runbook.facts import Table
from runbook.plan.model import Plan
from runbook.plan.script.atomic import back, there
from runbook.plan.script.online import BEGIN, phases
from runbook.plan.script.part import Part, in_a_line, part
from runbook.spec import Spec
from runbook.trust.settings import FOR_SESSION
from runbook.vocabulary import Phase

__all__ = ["Part", "back", "in_a_line", "part", "script", "there"]

_HEAD = """\
-- {heading}
-- plan {sha256}
-- made by migration-runbook {version}; run it with: psql -X -v ON_ERROR_STOP=1 -f FILE
{about}

\\set ON_ERROR_STOP on
\\encoding UTF8
{path};
"""

_ABOUT = {
    "atomic": "-- Everything after BEGIN is one transaction: it is all applied, or nothing is.",
    "online": """\
-- The application may go on meanwhile. Two short transactions lock the table; where the lock is not
-- to be had at once, the script ends and cannot be resumed: the runbook tries again, and resumes.
-- Each batch tells its rows and their hashes before and after; where one differs, the script ends.
-- What was committed before an error stays: the undo lines take it back, the last one first.""",
}


def script(spec: Spec, plan: Plan, table: Table) -> str:
    """Return the script. Atomic, it changes nothing when any statement or the proof fails."""
    pieces = {"atomic": _atomic, "online": phases}[plan.mode](spec, plan, table)
    head = _HEAD.format(
        heading=in_a_line(spec.heading),
        sha256=plan.sha256,
        version=__version__,
        about=_ABOUT[plan.mode],
        path=FOR_SESSION,
    )
    reasons = [f"-- {in_a_line(reason)}" for reason in plan.reasons]
    prepare = [str(part(statement)) for statement in plan.of_phase(Phase.PREPARE)]
    return "\n\n".join([head + "\n".join(reasons), *prepare, *pieces, *_later(plan)]) + "\n"


def _atomic(spec: Spec, plan: Plan, table: Table) -> Iterator[str]:
    """Yield one transaction."""
    yield BEGIN
    yield from map(str, there(spec, plan, table, "psql"))
    yield "COMMIT;"


_LATER = {
    Phase.CONTRACT: "For later: what `runbook contract` runs, once nobody uses the old name",
    Phase.ROLLBACK: "The way back: what `runbook rollback` runs to undo all of the above",
}


def _later(plan: Plan) -> Iterator[str]:
    """Yield what other commands would run, to be read alone."""
    for phase, title in _LATER.items():
        entries = [str(part(statement)) for statement in plan.of_phase(phase)]
        if entries:
            lines = "\n\n".join(entries).splitlines()
            yield "\n".join([f"-- {title}", "--", *(f"-- {line}".rstrip() for line in lines)])
