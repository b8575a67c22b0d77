"""The archive's front page: every bundle, newest first, from the manifests alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Self

from runbook.report.found import mapping, mappings, number, text
from runbook.report.page import render

Manifest = Mapping[str, Any]

_MANIFEST = "manifest.json"

_FILES = {
    "report.html": "report",
    "report.pdf": "PDF",
    "report.ipynb": "notebook",
    "plan.sql": "plan",
    "approval.json": "approval",
    _MANIFEST: "manifest",
}
"""The files of a bundle that are linked to, where they are there, and as what."""

_OPEN_SHOWN = 12
"""How many of the runs that went wrong are shown in full; all are in the list of all runs."""

_STEPS = ("review", "approve", "migrate", "verify", "rollback")
"""The steps in the order in which they are taken; others come after them."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One bundle, as a line of the page."""

    name: str
    finished: str
    """UTC, to the second."""
    migration: str
    step: str
    outcome: str
    good: bool
    message: str
    database: str
    """Empty where none was reached."""
    host: str
    operator: str
    before: int | None
    after: int | None
    checks: int
    checks_passed: int
    files: Sequence[tuple[str, str]]
    """Each file's name, and as what it is linked to."""

    @classmethod
    def of(cls, name: str, manifest: Manifest) -> Self:
        """Return what the page says of a bundle."""
        database, counts = mapping(manifest.get("database")), mapping(manifest.get("counts"))
        checks = mappings(manifest.get("checks"))
        port = number(database.get("port"))
        archived = [file.get("name") for file in mappings(manifest.get("files"))] + [_MANIFEST]
        moment = text(manifest.get("finished_at")) or text(manifest.get("started_at")) or "–"
        return cls(
            name=text(name),
            finished=moment[:19].replace("T", " "),
            migration=text(manifest.get("migration")) or "–",
            step=text(manifest.get("step")) or "–",
            outcome=text(manifest.get("outcome")) or "unknown",
            good=manifest.get("exit_code") == 0,
            message=text(manifest.get("message")),
            database=text(database.get("name")),
            host=text(database.get("host")) + (f":{port}" if port else ""),
            operator=text(manifest.get("operator")) or "–",
            before=number(mapping(counts.get("before")).get("total")),
            after=number(mapping(counts.get("after")).get("total")),
            checks=len(checks),
            checks_passed=sum(check.get("passed") is True for check in checks),
            files=[(file, label) for file, label in _FILES.items() if file in archived],
        )

    @property
    def place(self) -> tuple[str, str, str]:
        """What was migrated, and where."""
        return self.migration, self.database, self.host

    @property
    def main_file(self) -> str:
        """What a person wants to see first: the report, where there is one."""
        return self.files[0][0]

    @property
    def month(self) -> str:
        """The month of its end, as `2026-01`."""
        return self.finished[:7]


@dataclass(frozen=True, kw_only=True)
class Month:
    """The runs of one month, the newest first."""

    anchor: str
    title: str
    runs: Sequence[Run]

    @property
    def wrong(self) -> int:
        """How many of them went wrong."""
        return sum(not run.good for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A migration on a database, with the newest run of each step, if any."""

    migration: str
    database: str
    host: str
    newest: Sequence[Run | None]


def index_page(bundles: Sequence[tuple[str, Manifest]]) -> bytes:
    """Return the page as HTML in UTF-8; the bundles by name and manifest, the newest first."""
    runs = [Run.of(name, manifest) for name, manifest in bundles]
    still_open = _still_open(runs)
    steps = _steps(runs)
    return render(
        "archive.html.j2",
        title="Archived runs",
        wide=True,
        runs=runs,
        outcomes=_outcomes(runs),
        still_open=still_open[:_OPEN_SHOWN],
        more_open=max(0, len(still_open) - _OPEN_SHOWN),
        steps=steps,
        places=_places(runs, steps),
        months=_months(runs),
    )


def _outcomes(runs: Iterable[Run]) -> list[tuple[str, bool, int]]:
    """Return each outcome, whether it is a good one, and how many runs ended so; bad ones first."""
    found: dict[tuple[bool, str], int] = {}
    for run in runs:
        found[run.good, run.outcome] = found.get((run.good, run.outcome), 0) + 1
    return [(outcome, good, number) for (good, outcome), number in sorted(found.items())]


def _still_open(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that went wrong and were not made good: no later run of the same step, on
    the same database, went well. Of a run that reached no database nobody can say."""
    mended: set[tuple[str, ...]] = set()
    found = []
    for run in runs:
        key = (*run.place, run.step)
        if run.good:
            mended.add(key)
        elif key not in mended or not run.database:
            found.append(run)
    return found


def _steps(runs: Iterable[Run]) -> list[str]:
    """Return the steps that were taken, in their order."""
    taken = {run.step for run in runs}
    return [step for step in _STEPS if step in taken] + sorted(taken - set(_STEPS))


def _places(runs: Iterable[Run], steps: Sequence[str]) -> list[Place]:
    """Return how far each migration came on each database, the one last worked on first."""
    newest: dict[tuple[str, str, str], dict[str, Run]] = {}
    for run in runs:
        if run.database:
            newest.setdefault(run.place, {}).setdefault(run.step, run)
    return [
        Place(
            migration=migration,
            database=database,
            host=host,
            newest=[found.get(step) for step in steps],
        )
        for (migration, database, host), found in newest.items()
    ]


def _months(runs: Iterable[Run]) -> list[Month]:
    """Return the runs by month; a month may come twice where clocks were set back."""
    return [
        Month(anchor=f"runs-{n}", title=_month_name(month), runs=list(grouped))
        for n, (month, grouped) in enumerate(groupby(runs, key=lambda run: run.month), start=1)
    ]


def _month_name(month: str) -> str:
    """Return a month in words, or what stands in its place."""
    try:
        return datetime.strptime(month, "%Y-%m").strftime("%B %Y")
    except ValueError:
        return "Without a time"
