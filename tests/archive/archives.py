"""Archives made for tests, and what may be done to them."""

import shutil
from pathlib import Path

from runbook.archive.bundle import write_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.keys import SigningKey, make_key, signing_key
from runbook.archive.store import Store
from runbook.errors import Outcome
from runbook.record import Record

FILES = {
    "report.html": "<p>é</p>\n".encode() * 40,
    "report.ipynb": b'{"cells": []}\n',
    "plan.sql": b"SELECT 1;\n" * 9,
}


def record(name: str, finished_at: str = "2026-01-02T03:04:05.678Z") -> Record:
    """Return the record of a run that ended well; the same for the same name."""
    made = Record(
        run_id=name,
        migration="llamalog",
        step="migrate",
        started_at="2026-01-02T03:04:00.000Z",
        operator="ôp",
        host="h",
        parameters={"database_url": "env:DATABASE_URL", "lock_timeout_ms": 2000},
        timings={"apply": 0.1250},
    )
    made.end(Outcome.SUCCEEDED, "4,052 rows → done.")
    made.finished_at = finished_at
    return made


def fill(store: Store, count: int = 3, key: SigningKey | None = None) -> list[str]:
    """Archive bundles; return their names in the order of the chain."""
    return [
        write_bundle(store, record(f"run {n}", f"2026-01-02T03:04:{n:02d}.000Z"), FILES, key).name
        for n in range(count)
    ]


def archive(folder: Path, count: int = 3, key: SigningKey | None = None) -> FolderStore:
    """Make an archive in a folder."""
    store = FolderStore(folder)
    fill(store, count, key)
    return store


def key_pair(folder: Path, name: str = "key") -> tuple[SigningKey, str]:
    """Make a pair of keys; return the private one and the public one in base64."""
    public = make_key(folder / name)
    private = signing_key(str(folder / name))
    assert private is not None and private.public == public
    return private, public


def copy(store: FolderStore, folder: Path) -> FolderStore:
    """Return a copy of an archive."""
    shutil.copytree(store.path, folder)
    return FolderStore(folder)
