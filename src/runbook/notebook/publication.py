"""A record as data of a notebook's cell, with a banner for its reader."""

from typing import Any

from runbook.record import MIME, Record
from runbook.report import html
from runbook.report.summary import headline


def publication(record: Record) -> dict[str, Any]:
    """Return a record as the data of an output: for the engine, for a browser, and as text."""
    kind = "good" if record.exit_code == 0 else "bad"
    shown = html.banner(kind, headline(record), record.remedy)
    return {
        MIME: record.model_dump(mode="json"),
        "text/html": shown.markup,
        "text/plain": shown.text,
    }
