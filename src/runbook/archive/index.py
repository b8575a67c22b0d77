"""The archive's front page: every bundle, newest first, from the manifests alone."""

import html
import json
from pathlib import Path
from typing import Any

from runbook.archive.manifest import NAME
from runbook.report.page import page


def bundles(folder: Path) -> list[Path]:
    """Return the bundles in a folder, the newest first."""
    found = (path.parent for path in folder.glob(f"*/{NAME}"))
    whole = [path for path in found if not path.name.startswith(".")]
    return sorted(whole, key=lambda path: (path / NAME).stat().st_mtime_ns, reverse=True)


def make_index(folder: Path) -> bytes:
    """Return the page as HTML in UTF-8."""
    rows = "\n".join(_row(bundle) for bundle in bundles(folder))
    body = (
        "<h1>Archived runs</h1>\n<table class='runbook index'><thead><tr><th>Finished (UTC)</th>"
        "<th>Migration</th><th>Step</th><th>Outcome</th><th>Database</th><th>Rows before</th>"
        "<th>Rows after</th><th>Checks</th><th>Files</th></tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table>"
    )
    return page("Archived runs", body).encode()


def _row(bundle: Path) -> str:
    """Return one bundle's line."""
    manifest: dict[str, Any] = json.loads((bundle / NAME).read_text("utf-8"))
    counts, database = manifest["counts"], manifest["database"] or {}
    checks = manifest["checks"]
    link = html.escape(bundle.name, quote=True)
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
        f"<a href='{link}/{NAME}'>manifest</a>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
