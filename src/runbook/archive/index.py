"""The archive's front page: every bundle, newest first, from the manifests alone."""

import hashlib
import html
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from runbook.archive.manifest import NAME, SCHEMA
from runbook.report.page import page


def bundles(folder: Path) -> list[Path]:
    """Return the bundles in a folder along the chain of their hashes, the newest first.

    Times of files are no guide: copies and object stores do not keep them. What is no manifest of
    ours is left alone.
    """
    found: dict[str, tuple[Path, str | None]] = {}
    for path in sorted(folder.glob(f"*/{NAME}")):
        if not path.parent.name.startswith("."):
            data = path.read_bytes()
            with suppress(ValueError):
                content = json.loads(data)
                if isinstance(content, dict) and content.get("schema") == SCHEMA:
                    previous = content["previous_manifest_sha256"]
                    found[hashlib.sha256(data).hexdigest()] = (path.parent, previous)
    after = {previous: own for own, (_, previous) in found.items() if previous in found}
    ordered = []
    for start in (own for own, (_, previous) in found.items() if previous not in found):
        head: str | None = start
        while head is not None:
            ordered.append(found[head][0])
            head = after.get(head)
    return ordered[::-1]


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
