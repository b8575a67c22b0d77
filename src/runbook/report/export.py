"""The report as one HTML file: a summary from the record, then the executed notebook."""

import html
from importlib import resources

from nbformat import NotebookNode

from runbook.record import MIME, Record
from runbook.report.page import page


def report_html(notebook: NotebookNode, record: Record) -> bytes:
    """Return the report in UTF-8. Its first line says how the run ended."""
    title = f"{record.migration} {record.step}: {record.outcome}"
    return page(title, f"{_summary(record)}\n{_cells(notebook)}", _code_css()).encode()


def report_notebook(notebook: NotebookNode, record: Record) -> bytes:
    """Return the executed notebook in UTF-8, with a first cell that says how the run ended."""
    import nbformat
    from nbformat.v4 import new_markdown_cell

    notebook = nbformat.from_dict(dict(notebook))
    first = new_markdown_cell(f"**{headline(record)}** {record.remedy}".strip(), id="outcome")
    notebook.cells = [first, *notebook.cells]
    return str(nbformat.writes(notebook)).encode()


def headline(record: Record) -> str:
    """Return the first line of a report: the outcome, and what it means."""
    return f"{record.outcome.replace('-', ' ').capitalize()}: {record.message}"


def _summary(record: Record) -> str:
    """Return outcome, counts, proof and checks in one look."""
    kind = "good" if record.exit_code == 0 else "bad"
    counts, checks = record.counts, record.checks
    tiles = [("rows before", f"{counts.before.total:,}")] if counts.before else []
    tiles += [("rows after", f"{counts.after.total:,}")] if counts.after else []
    if record.proof:
        tiles.append(("proof of the data", "equal" if record.proof["passed"] else "DIFFERENT"))
    if checks:
        tiles.append(("checks passed", f"{sum(c['passed'] for c in checks)} of {len(checks)}"))
    warnings = sum(finding["level"] == "warning" for finding in record.findings)
    if warnings:
        tiles.append(("warnings", str(warnings)))
    if record.step == "migrate" and record.plan:
        tiles.append(("plan approved", "yes" if record.plan.approved else "no"))
    if record.locked_ms is not None:
        tiles.append(("table locked", f"{record.locked_ms:,.0f} ms"))
    place = record.database
    where = (
        f"{place.name} on {place.host}{f':{place.port}' if place.port else ''}, "
        f"PostgreSQL {place.server_version}, as {place.user}"
        if place
        else "no database was reached"
    )
    shown = "".join(
        f"<div class='tile'><b>{html.escape(amount)}</b><span>{name}</span></div>"
        for name, amount in tiles
    )
    when = f"{record.started_at} – {record.finished_at or '?'}"
    return (
        f"<section class='summary {kind}'><strong>{html.escape(headline(record))}</strong>"
        f"<p>{html.escape(record.remedy)}</p></section>\n<div class='tiles'>{shown}</div>\n"
        f"<p>{html.escape(where)}. {html.escape(when)}, by {html.escape(record.operator)}.</p>"
    )


def _cells(notebook: NotebookNode) -> str:
    """Return the cells' HTML by nbconvert and this package's template."""
    from nbconvert import HTMLExporter

    with resources.as_file(resources.files("runbook.report") / "templates") as templates:
        exporter = HTMLExporter(
            template_name="runbook",
            extra_template_basedirs=[str(templates)],
            exclude_input_prompt=True,
            exclude_anchor_links=True,
        )
        markup, _ = exporter.from_notebook_node(notebook, {"record_type": MIME})
    return str(markup)


def _code_css() -> str:
    """Return the colours of code, in light and dark."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
