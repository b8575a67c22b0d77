"""From an executed notebook to its bundle: the record that it published, and what is archived."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbformat import NotebookNode

from runbook.errors import Outcome, UsageError
from runbook.visible import visible

if TYPE_CHECKING:
    from runbook.archive.bundle import Bundle
    from runbook.archive.destination import Destination
    from runbook.engine.profile import Profile
    from runbook.record import Record

KEY = "runbook"
"""The key in a notebook's metadata; its value names the step."""


@dataclass(frozen=True, kw_only=True)
class Archived:
    """What came of a run: its record, and its bundle unless no database was reached."""

    record: "Record"
    bundle: "Bundle | None" = None
    spooled: Path | None = None
    """Where the bundle waits, if the archive could not be written after the run."""
    problem: str = ""
    """Why it could not be written."""

    @property
    def exit_code(self) -> int:
        """The code that a command ends with: 1 if the report was not archived, whatever the run's
        own outcome."""
        return 1 if self.problem else self.record.exit_code


def archive_run(
    nb: NotebookNode, record: "Record", destination: "Destination", profile: "Profile"
) -> Archived:
    """Write the bundle of an executed notebook; into the spool if the archive cannot be written.

    A run that was refused before a database was reached has none.
    """
    from runbook.archive.bundle import write_bundle
    from runbook.archive.spool import spool
    from runbook.report.export import report_html, report_notebook

    if not record.reached_any and record.outcome is Outcome.REFUSED:
        return Archived(record=record)
    profile.put_into(record)
    with profile.timed("report: HTML"):
        page = report_html(nb, record)
    files = {
        "report.ipynb": report_notebook(nb, record),
        "report.html": page,
        "plan.sql": (record.plan_sql or "-- No plan was made.\n").encode(),
    }
    if record.plan_json:
        files["plan.json"] = record.plan_json.encode()
    if destination.pdf:
        with profile.timed("report: PDF"):
            files |= _pdf(page)
    profile.put_into(record)
    try:
        destination = _named_by_notebook(record, destination)
        bundle = write_bundle(
            destination.store, record, files, destination.key, lists=destination.lists
        )
    except Exception as error:  # whatever it is, the report must not be lost
        problem = _in_words(error)
        kept = spool(record, files, destination.store.location, destination.key)
        return Archived(record=record, spooled=kept, problem=problem)
    return Archived(record=record, bundle=bundle)


def _in_words(error: Exception) -> str:
    """Return why an archive could not be written."""
    from runbook.archive.store import ArchiveError

    if isinstance(error, ArchiveError):
        return error.reason
    return error.message if isinstance(error, UsageError) else type(error).__name__


def _pdf(page: bytes) -> dict[str, bytes]:
    """Return the report as PDF; where that fails, nothing: a bundle is not lost for its sake."""
    from runbook.report.pdf import report_pdf

    try:
        return {"report.pdf": report_pdf(page)}
    except Exception as error:
        print(f"The PDF could not be made ({type(error).__name__}).", file=sys.stderr)
        return {}


def _named_by_notebook(record: "Record", destination: "Destination") -> "Destination":
    """Return the destination that the notebook's own default names, if that is another one."""
    from runbook.archive.destination import prepare

    reports = str(record.parameters.get("reports", destination.reports))
    return destination if reports == destination.reports else prepare(reports)


def published_record(nb: NotebookNode) -> "Record | None":
    """Return the record that the notebook published last, or None."""
    from runbook.record import MIME, Record

    found = [
        output.data[MIME]
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]
    return Record.model_validate(found[-1]) if found else None


def parameter(nb: NotebookNode, name: str, default: object) -> object:
    """Return a parameter as it was passed to papermill."""
    return nb.metadata.get("papermill", {}).get("parameters", {}).get(name, default)


def tell(archived: Archived) -> None:
    """Say how it ended and where the report is; used where nobody else reports."""
    record = archived.record
    place = f" Report: {archived.bundle.report}" if archived.bundle else ""
    print(visible(f"{record.outcome}: {record.message}{place}"), file=sys.stderr)
    for sentence in undelivered(archived):
        print(visible(sentence), file=sys.stderr)


def undelivered(archived: Archived) -> tuple[str, ...]:
    """Return what is to be said of a report that could not be archived."""
    if not archived.problem:
        return ()
    what = f"The report could not be archived: {archived.problem}."
    if archived.spooled is None:
        return (
            what,
            "It could not be kept anywhere else; the ledger records what was done.",
        )
    return (what, f"It is kept in {archived.spooled}; deliver it with: runbook archive push")
