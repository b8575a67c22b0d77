"""The archive's front page: every bundle, newest first, from the manifests alone."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from runbook.report.page import page

Manifest = Mapping[str, Any]


def index_page(bundles: Sequence[tuple[str, Manifest]]) -> bytes:
    """Return the page as HTML in UTF-8; the bundles by name and manifest, the newest first."""
    rows = "\n".join(_row(name, manifest) for name, manifest in bundles)
    body = (
        "<h1>Archived runs</h1>\n<table class='runbook index'><thead><tr><th>Finished (UTC)</th>"
        "<th>Migration</th><th>Step</th><th>Outcome</th><th>Database</th><th>Rows before</th>"
        "<th>Rows after</th><th>Checks</th><th>Files</th></tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table>"
    )
    return page("Archived runs", body).encode()


def _row(name: str, manifest: Manifest) -> str:
    """Return one bundle's line."""
    counts, database = manifest["counts"], manifest["database"] or {}
    checks = manifest["checks"]
    link = html.escape(name, quote=True)
    passed = f"{sum(c['passed'] for c in checks)} of {len(checks)}" if checks else "–"
    kind = "good" if manifest["exit_code"] == 0 else "bad"
    cells = (
        html.escape(str(manifest["finished_at"] or "–")[:19].replace("T", " ")),
        html.escape(manifest["migration"]),
        html.escape(manifest["step"]),
        f"<a class='{kind}' href='{link}/report.html'>{html.escape(manifest['outcome'])}</a>",
        html.escape(f"{database.get('name', '–')} on {database.get('host', '–')}"),
        _number((counts.get("before") or {}).get("total")),
        _number((counts.get("after") or {}).get("total")),
        passed,
        f"<a href='{link}/report.ipynb'>notebook</a> <a href='{link}/plan.sql'>plan</a> "
        f"<a href='{link}/manifest.json'>manifest</a>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
