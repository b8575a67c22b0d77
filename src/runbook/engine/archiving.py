"""From an executed notebook to its bundle: the record that it published, and what is archived."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbformat import NotebookNode

if TYPE_CHECKING:
    from runbook.record import Record

KEY = "runbook"
"""The key in a notebook's metadata; its value names the step."""


@dataclass(frozen=True, kw_only=True)
class Archived:
    """What came of a run: its record, and its bundle unless no database was reached."""

    record: "Record"
    bundle: Path | None


def archive_run(nb: NotebookNode, folder: Path) -> Archived:
    """Write the bundle of an executed notebook."""
    from runbook.archive.bundle import write_bundle
    from runbook.archive.folder import prepare
    from runbook.errors import RunbookError
    from runbook.report.export import report_html, report_notebook

    published = published_record(nb)
    record = published or _lost_record(nb)
    if published and published.database is None:
        return Archived(record=record, bundle=None)
    if "reports" in record.parameters:  # a notebook's own default may name another folder
        folder = prepare(str(record.parameters["reports"]))
    files = {
        "report.ipynb": report_notebook(nb, record),
        "report.html": report_html(nb, record),
        "plan.sql": (record.plan_sql or "-- No plan was made.\n").encode(),
    }
    try:
        return Archived(record=record, bundle=write_bundle(folder, record, files))
    except OSError as error:
        raise RunbookError(
            f"The run ended as {record.outcome} ({record.message}), but its bundle could not be "
            f"written into {folder}: {error.strerror}.",
            "Make room there, then run `runbook verify`: it archives the state of the database.",
        ) from error


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


def _lost_record(nb: NotebookNode) -> "Record":
    """Return what can be said of a run whose kernel ended before it published anything."""
    from runbook.record import Record, now

    record = Record(
        run_id="",
        migration=Path(str(parameter(nb, "spec", "llamalog"))).stem,
        step=str(nb.metadata[KEY]["step"]),
        started_at=now(),
    )
    record.message = "The kernel ended before it published a result."
    record.remedy = (
        "The database is either as it was or wholly migrated, nothing between: "
        "`runbook verify` tells which."
    )
    record.finished_at = now()
    return record


def parameter(nb: NotebookNode, name: str, default: object) -> object:
    """Return a parameter as it was passed to papermill."""
    return nb.metadata.get("papermill", {}).get("parameters", {}).get(name, default)


def tell(archived: Archived) -> None:
    """Say where the report is; used where nobody else reports."""
    place = f" Report: {archived.bundle / 'report.html'}" if archived.bundle else ""
    print(f"{archived.record.outcome}: {archived.record.message}{place}", file=sys.stderr)
