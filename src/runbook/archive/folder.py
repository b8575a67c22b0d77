"""An archive in a folder.

The files of a bundle are written into a hidden folder, forced to disk, and that folder is renamed
into place: a folder without a dot in front is therefore always a whole bundle.
"""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from runbook.archive.chain import head
from runbook.archive.manifest import NAME, Manifest, Position
from runbook.archive.store import (
    INDEX,
    ArchiveError,
    Contents,
    Only,
    Seal,
    all_of_them,
    free_name,
    manifests,
)
from runbook.bounded import MANIFEST_BYTES
from runbook.placed import locked, new_folder, replace_file

_LOCK = ".lock"
_NOTE = ".head"


class FolderStore:
    """Bundles below a folder; one writer at a time, by a file lock."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()

    @property
    def location(self) -> str:
        return str(self.path)

    def probe(self) -> None:
        with _archive_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(b"\0" * 4096)
            with self._one_writer():
                pass

    def publish(self, stem: str, files: Mapping[str, bytes], seal: Seal) -> str:
        with _archive_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            with new_folder(self.path, ".partial-") as staging:
                for name, data in files.items():
                    staging.write(name, data)
                with self._one_writer():
                    bundle = free_name(stem, lambda name: os.path.lexists(self.path / name))
                    manifest = seal(Position(bundle=bundle, previous=self._head()))
                    staging.write(NAME, manifest)
                    staging.publish(bundle)
                    self._note(bundle, manifest)
            # It is in its place and whole, so what fails from here on is no failure to archive.
            with suppress(OSError):
                _sync(self.path)
        return bundle

    def bundles(self, only: Only = all_of_them) -> dict[str, Manifest]:
        return manifests(self._manifests(only))

    def contents(self) -> Contents:
        return Contents(manifests=self._manifests(all_of_them), links=self._links())

    def _links(self) -> list[str]:
        """Return what has the place of a bundle, and is a link to something elsewhere."""
        with _archive_errors():
            return sorted(
                path.name
                for path in self.path.iterdir()
                if path.is_symlink() and path.is_dir() and not path.name.startswith(".")
            )

    def _manifests(self, only: Only) -> dict[str, bytes | None]:
        with _archive_errors():
            paths = {name: self.path / name / NAME for name in filter(only, self.folders())}
            return {
                name: _read(path) if os.path.lexists(path) else None for name, path in paths.items()
            }

    def _head(self) -> str | None:
        """Return the hash of the manifest that was archived last.

        Whoever archived it left a note of it, and of the folders that there were then: as long as
        they are the same and the manifest is as noted, none of the others has to be read.
        """
        names = sorted(self.folders())
        try:
            with _opened(self.path / _NOTE) as note:
                noted = json.loads(note.read(MANIFEST_BYTES) if note else b"")
            bundle, sha256 = str(noted["bundle"]), str(noted["sha256"])
            if noted["folders"] == _digest(names) and bundle in names:
                found = _read(self.path / bundle / NAME)
                if hashlib.sha256(found).hexdigest() == sha256:
                    return sha256
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return head(self.bundles())

    def _note(self, bundle: str, manifest: bytes) -> None:
        """Leave a note for `_head`. It is no part of the archive, and may be lost."""
        with suppress(OSError):
            note = {
                "bundle": bundle,
                "sha256": hashlib.sha256(manifest).hexdigest(),
                "folders": _digest(sorted(self.folders())),
            }
            replace_file(self.path / _NOTE, json.dumps(note).encode())

    def folders(self) -> Iterable[str]:
        with _archive_errors():
            return sorted(
                path.name
                for path in self.path.iterdir()
                # A link leads to what was never sealed: it is no bundle.
                if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
            )

    def files(self, bundle: str) -> dict[str, int]:
        with _archive_errors():
            return dict(_walk(self._bundle(bundle), ""))

    def read(self, bundle: str, file: str) -> bytes:
        with _archive_errors():
            return _read(self._bundle(bundle) / file)

    def digest(self, bundle: str, file: str) -> str:
        with _archive_errors(), _opened(self._bundle(bundle) / file) as found:
            return hashlib.file_digest(found, "sha256").hexdigest() if found else ""

    def _bundle(self, name: str) -> Path:
        """Return a bundle's folder. Raises `ArchiveError` where it is a link."""
        path = self.path / name
        if path.is_symlink():
            raise ArchiveError(f"{name} is a link, and no bundle")
        return path

    def put_index(self, make: Callable[[], bytes]) -> None:
        with _archive_errors(), self._one_writer():
            replace_file(self.path / INDEX, make())

    def _one_writer(self) -> AbstractContextManager[None]:
        return locked(self.path / _LOCK)


@contextmanager
def _archive_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(error.strerror or type(error).__name__) from error


def _digest(names: Iterable[str]) -> str:
    """Return what tells one list of names from another."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield everything in a folder of a bundle that is not its manifest: name and size in bytes.

    What is no regular file has the size -1, which no manifest lists: a link leads to what was never
    sealed, and an empty folder was not there.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            inside = list(_walk(Path(entry.path), f"{prefix}{entry.name}/"))
            yield from inside or [(f"{prefix}{entry.name}/", -1)]
        elif f"{prefix}{entry.name}" != NAME:
            is_file = entry.is_file(follow_symlinks=False)
            yield (
                f"{prefix}{entry.name}",
                entry.stat(follow_symlinks=False).st_size if is_file else -1,
            )


def _read(path: Path) -> bytes:
    """Return a file's content; of a link, a pipe or a device nothing, so that no hash fits, and
    nothing of a file that is too large to be one of ours."""
    with _opened(path) as file:
        data = file.read(MANIFEST_BYTES + 1) if file else b""
    return data if len(data) <= MANIFEST_BYTES else b""


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader | None]:
    """Open a regular file; yield None for a link, a pipe or a device."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        yield file if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _sync(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
