"""Writing a bundle: whole or not at all.

The files are written into a hidden folder, forced to disk, and the folder is renamed into place; a
folder without a dot in front is therefore always a whole bundle.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runbook.archive.index import bundles, make_index
from runbook.archive.manifest import NAME, make_manifest
from runbook.record import Record

_LOCK = ".lock"


def write_bundle(folder: Path, record: Record, files: Mapping[str, bytes]) -> Path:
    """Archive files and manifest as one bundle; return its folder.

    One writer at a time: each manifest holds the hash of the one before.
    """
    staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        with _one_writer(folder):
            manifest = make_manifest(record, files, _newest_manifest(folder))
            for name, data in {**files, NAME: manifest}.items():
                _write(staging / name, data)
            staging.chmod(0o755)
            _sync(staging)
            bundle = _free_name(folder, record)
            staging.rename(bundle)
            _sync(folder)
            _replace(folder / "index.html", make_index(folder))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return bundle


def _free_name(folder: Path, record: Record) -> Path:
    """Return the bundle's path; runs that end in the same second get a number."""
    moment = (record.finished_at or record.started_at).replace("-", "").replace(":", "")
    migration = re.sub(r"[^A-Za-z0-9_-]", "_", record.migration)[:40]
    stem = f"{moment.partition('.')[0]}Z-{migration}-{record.step}-{record.outcome}"
    path, n = folder / stem, 2
    while path.exists():
        path, n = folder / f"{stem}-{n}", n + 1
    return path


def _newest_manifest(folder: Path) -> str | None:
    """Return the hash of the manifest that was archived last."""
    found = bundles(folder)
    return hashlib.sha256((found[0] / NAME).read_bytes()).hexdigest() if found else None


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, data: bytes) -> None:
    """Replace a file whole."""
    part = path.with_name(f".{path.name}.partial")
    _write(part, data)
    part.replace(path)


def _sync(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
