"""The report as PDF: the same bytes every time, nothing fetched, and tagged."""

import os
import subprocess
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from re import DOTALL, findall
from threading import Thread

import nbformat
import pytest

from runbook.errors import UsageError
from runbook.report import pdf
from runbook.report.export import report_html
from tests.report.records import record

try:
    pdf.require_pdf()
    MISSING = ""
except UsageError as error:
    MISSING = str(error)

needs_pango = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def page(more: str = "") -> bytes:
    """Return a report's page, with something more at its end."""
    cells = [nbformat.v4.new_markdown_cell("# Migration\n\n## Plan\n\nWhat is to be done.", id="a")]
    made = report_html(nbformat.v4.new_notebook(cells=cells), record())
    return made.replace(b"</main>", more.encode() + b"</main>")


def unpacked(document: bytes) -> bytes:
    """Return a PDF with what its compressed streams hold."""
    streams = findall(rb"stream\r?\n(.*?)\r?\nendstream", document, DOTALL)
    return document + b"".join(
        zlib.decompressobj().decompress(stream) for stream in streams if stream[:1] == b"x"
    )


@needs_pango
@pytest.mark.parametrize("subsetter", ["HarfBuzz", "fontTools"])
def test_the_same_page_gives_the_same_bytes_at_another_time(
    subsetter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if subsetter == "fontTools":
        monkeypatch.setattr("weasyprint.pdf.fonts.harfbuzz_subset", None)
    first = pdf.report_pdf(page())
    time.sleep(1.1)
    assert pdf.report_pdf(page()) == first
    assert pdf.report_pdf(page("<p>Something else.</p>")) != first
    assert "SOURCE_DATE_EPOCH" not in os.environ


@needs_pango
def test_it_is_tagged_and_says_what_it_is_of_when_and_by_whom() -> None:
    found = unpacked(pdf.report_pdf(page()))
    assert found.startswith(b"%PDF-1.7")
    for part in (b"/MarkInfo", b"pdfuaid:part", b"llamalog migrate: succeeded", b"Ada"):
        assert part in found, part
    assert b"D:20260304050607" in found


@needs_pango
@pytest.mark.parametrize(
    "reference",
    [
        "<img src='{url}' alt='x'>",
        "<link rel='stylesheet' href='{url}'>",
        "<style>@import url('{url}');</style>",
        "<div style=\"background:url('{url}')\">x</div>",
    ],
    ids=["picture", "style sheet", "import", "background"],
)
def test_nothing_is_fetched_from_a_host(reference: str) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/it"
        assert pdf.report_pdf(page(reference.format(url=url))).startswith(b"%PDF")
        server.shutdown()
    assert asked == []


@needs_pango
def test_no_file_is_read(tmp_path: Path) -> None:
    """A style sheet of the machine would change the page, if it were read."""
    (tmp_path / "theirs.css").write_text("body { display: none }")
    link = f"<link rel='stylesheet' href='{(tmp_path / 'theirs.css').as_uri()}'>"
    hidden = page("<style>body { display: none }</style>")
    whole = len(pdf.report_pdf(page()))
    assert len(pdf.report_pdf(hidden)) < whole / 2
    assert len(pdf.report_pdf(page(link))) > whole / 2


@pytest.mark.parametrize(
    ("error", "lacking", "remedy"),
    [
        (ImportError("No module named 'weasyprint'"), "weasyprint", "pip install"),
        (OSError("cannot load library 'libpango-1.0-0'"), "pango", "libpango-1.0-0"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(
    error: Exception, lacking: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "weasyprint":
                print("a page of advice")
                raise error

    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(UsageError, match=f"^A PDF needs {lacking}") as caught:
        pdf.report_pdf(page())
    assert remedy in caught.value.remedy and "--pdf" in caught.value.remedy


def test_weasyprint_is_not_loaded_before_a_pdf_is_asked_for() -> None:
    loaded = (
        "import runbook.report.export, runbook.report.pdf, sys; print('weasyprint' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"
