"""The manifest: the record of a run, and the hash of every file that is archived with it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from runbook.record import Record

NAME = "manifest.json"
SCHEMA = "runbook.manifest/1"


def make_manifest(record: Record, files: Mapping[str, bytes], previous: str | None) -> bytes:
    """Return the manifest as JSON text in UTF-8.

    `previous` is the SHA-256 of the manifest that was archived before this one, if any.
    """
    content: dict[str, Any] = {"schema": SCHEMA}
    content |= record.model_dump(mode="json", exclude={"plan_sql"})
    content["files"] = [
        {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    content["previous_manifest_sha256"] = previous
    content["signature"] = None
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
