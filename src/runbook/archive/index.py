"""The bundles of an archive, in the order of their chain."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from runbook.archive.manifest import NAME, SCHEMA
from runbook.report.index import index_page


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
    """Return the archive's front page."""
    found = bundles(folder)
    return index_page([(b.name, json.loads((b / NAME).read_text("utf-8"))) for b in found])
