"""The report as one HTML file: a summary from the record, then the executed notebook."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode

from runbook.record import Record
from runbook.report import summary
from runbook.report.html import banner
from runbook.report.page import load_template, render
from runbook.report.summary import headline
from runbook.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from nbconvert import HTMLExporter

_OWN_TYPES = "application/vnd.runbook."
"""How the types begin under which a notebook publishes what only programs read."""

_TEMPLATE = "report.html.j2"

_EXPORTING = Lock()
"""Held while nbconvert works: one exporter serves all threads, and keeps what it is at."""

_SECTION = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the notebook, to be jumped to."""

    anchor: str
    title: "Markup"


@cache
def load() -> None:
    """Load what making a page needs, once: most of a second, to be spent while a kernel works.

    Libraries, templates, lexers and tables are made where they are first asked for, so a notebook
    with a cell of each kind is exported.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    output = new_output("display_data", {"text/html": "<p>&amp;</p>", "text/plain": ""})
    code = new_code_cell("run: str = f'{1}'  # a comment", outputs=[output], execution_count=1)
    _cells(new_notebook(cells=[new_markdown_cell("## `Kinds`"), code]))
    load_template(_TEMPLATE)


def report_html(notebook: NotebookNode, record: Record) -> bytes:
    """Return the report in UTF-8. Its first line says how the run ended."""
    from markupsafe import Markup

    cells = _cells(notebook)
    return render(
        _TEMPLATE,
        title=f"{record.migration} {record.step}: {record.outcome}",
        wide=False,
        record=record,
        good=record.exit_code == 0,
        headline=headline(record),
        brief=summary.brief(record),
        tiles=summary.tiles(record),
        rows_head=summary.rows_head(record),
        rows=summary.rows(record),
        total=summary.total(record),
        checks=summary.checks(record),
        about=summary.about(record),
        # Trusted: nbconvert made it of our notebook and our fragments, which escape their data.
        # What a library printed in between, a warning say, may hold anything.
        cells=Markup(visible(cells, lines=True)),
        sections=[
            Section(anchor=Markup(anchor).unescape(), title=Markup(title))
            for anchor, title in _SECTION.findall(cells)
        ],
    )


def report_notebook(notebook: NotebookNode, record: Record) -> bytes:
    """Return the executed notebook in UTF-8, with a first cell that says how the run ended."""
    import nbformat
    from nbformat.v4 import new_markdown_cell

    notebook = nbformat.from_dict(dict(notebook))
    kind = "good" if record.exit_code == 0 else "bad"
    said = banner(kind, headline(record), record.remedy)
    first = new_markdown_cell(said.as_markdown(), id="outcome")
    notebook.cells = [first, *notebook.cells]
    return str(nbformat.writes(notebook)).encode()


def _cells(notebook: NotebookNode) -> str:
    """Return the cells' HTML by nbconvert and this package's template."""
    with _EXPORTING:
        markup, _ = _exporter().from_notebook_node(notebook, {"own_types": _OWN_TYPES})
    return str(markup)


@cache
def _exporter() -> "HTMLExporter":
    """Return what exports; its templates are compiled once."""
    from nbconvert import HTMLExporter
    from nbconvert.exporters.templateexporter import TemplateExporter
    from nbconvert.filters.highlight import Highlight2HTML

    class Exporter(HTMLExporter):  # type: ignore[misc]
        """nbconvert's, without its last step: it parses the page anew, in five sixths of the time,
        to give images a text that ours have, and a focus to elements that the template lacks."""

        def from_notebook_node(self, nb: NotebookNode, *more: Any) -> tuple[str, Any]:
            lexer = nb.metadata.get("language_info", {}).get("pygments_lexer", "ipython3")
            self.register_filter(
                "highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self)
            )
            found: tuple[str, Any] = TemplateExporter.from_notebook_node(self, nb, *more)
            return found

    return Exporter(
        template_name="runbook",
        extra_template_basedirs=[str(Path(__file__).with_name("templates"))],
        exclude_input_prompt=True,
        anchor_link_text="#",
    )
