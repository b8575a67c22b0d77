"""An archive in a folder.

The files of a bundle are written into a hidden folder, forced to disk, and that folder is renamed
into place: a folder without a dot in front is therefore always a whole bundle.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from runbook.archive.chain import head
from runbook.archive.manifest import NAME, Manifest, Position
from runbook.archive.store import INDEX, ArchiveError, Seal, free_name, manifests

_LOCK = ".lock"


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

    def publish(self, stem: str, files: Mapping[str, bytes], seal: Seal) -> str:
        with _archive_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.path))
            try:
                for name, data in files.items():
                    _write(staging / name, data)
                with self._one_writer():
                    bundle = free_name(stem, lambda name: (self.path / name).exists())
                    position = Position(bundle=bundle, previous=head(self.bundles()))
                    _write(staging / NAME, seal(position))
                    staging.chmod(0o755)
                    _sync(staging)
                    staging.rename(self.path / bundle)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            # It is in its place and whole, so what fails from here on is no failure to archive.
            with suppress(OSError):
                _sync(self.path)
        return bundle

    def bundles(self) -> dict[str, Manifest]:
        with _archive_errors():
            paths = {name: self.path / name / NAME for name in self.folders()}
            return manifests({n: path.read_bytes() for n, path in paths.items() if path.is_file()})

    def folders(self) -> Iterable[str]:
        with _archive_errors():
            return sorted(
                path.name
                for path in self.path.iterdir()
                if path.is_dir() and not path.name.startswith(".")
            )

    def files(self, bundle: str) -> dict[str, int]:
        top = self.path / bundle
        with _archive_errors():
            return {
                str(path.relative_to(top)): path.lstat().st_size
                for path in sorted(top.rglob("*"))
                if not path.is_dir() and path != top / NAME
            }

    def read(self, bundle: str, file: str) -> bytes:
        with _archive_errors():
            return (self.path / bundle / file).read_bytes()

    def put_index(self, make: Callable[[], bytes]) -> None:
        with _archive_errors(), self._one_writer():
            part = self.path / f".{INDEX}.partial"
            _write(part, make())
            part.replace(self.path / INDEX)

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        with (self.path / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _archive_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(error.strerror or type(error).__name__) from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Force a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
