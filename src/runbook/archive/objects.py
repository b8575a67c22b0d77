"""An archive in an object store, by fsspec: `s3://`, `gs://`, `az://`, `memory://`.

An object store has no rename and no lock; what it has is an exclusive create (S3: If-None-Match,
Google: ifGenerationMatch=0, Azure: overwrite=False), which fsspec calls `mode="create"`. So:

1. the bundle's name is reserved by creating its first file exclusively, then the others follow;
2. its place in the chain is claimed by creating `.chain/<number>` exclusively, which holds the
   manifest; who loses makes the manifest anew, behind the winner's;
3. the manifest is written, last: a folder with a manifest is a whole bundle.

A writer that dies between 2 and 3 has said everything in its claim; the next one completes it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runbook.archive.chain import head
from runbook.archive.manifest import NAME, Manifest, Position, read_manifest
from runbook.archive.store import INDEX, ArchiveError, Seal, free_name, manifests
from runbook.errors import UsageError

_CHAIN = ".chain"
_PROBE = ".probe"


class ObjectStore:
    """Bundles below a prefix of an object store."""

    def __init__(self, url: str) -> None:
        """Reach the store. Raises `UsageError` if fsspec has no way to it."""
        import fsspec

        scheme = url.partition("://")[0]
        self.location = url.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.location, use_listings_cache=False)
        except ImportError:
            raise UsageError(
                f"Reaching {scheme}:// needs a package that is not installed.",
                f"Install it with: pip install 'migration-runbook[{_EXTRAS.get(scheme, scheme)}]'",
            ) from None
        except ValueError:
            raise UsageError(
                f"The archive's scheme {scheme}:// is not known.",
                "Give a folder, or a URL that fsspec knows, such as s3://bucket/folder.",
            ) from None
        self._root = str(self._root).rstrip("/")

    def probe(self) -> None:
        with _archive_errors():
            self._fs.pipe_file(f"{self._root}/{_PROBE}", b"")

    def publish(self, stem: str, files: Mapping[str, bytes], seal: Seal) -> str:
        with _archive_errors():
            first, *others = files.items()
            bundle = free_name(stem, lambda name: not self._create(f"{name}/{first[0]}", first[1]))
            for name, data in others:
                self._put(f"{bundle}/{name}", data)
            self._put(f"{bundle}/{NAME}", self._claim(bundle, seal))
        return bundle

    def _claim(self, bundle: str, seal: Seal) -> bytes:
        """Take the next place in the chain; return the manifest that stands in it."""
        while True:
            number, previous = self._last_place()
            manifest = seal(Position(bundle=bundle, previous=previous))
            claim = {"bundle": bundle, "manifest": manifest.decode()}
            if self._create(f"{_CHAIN}/{number + 1:08d}", json.dumps(claim).encode()):
                return manifest

    def _last_place(self) -> tuple[int, str | None]:
        """Return the last place that is taken, and the hash of the manifest in it."""
        claims = sorted(self._names(_CHAIN))
        if not claims:
            return 0, head(self.bundles())
        claim = json.loads(self._fs.cat_file(f"{self._root}/{_CHAIN}/{claims[-1]}"))
        manifest = read_manifest(claim["manifest"].encode())
        assert manifest is not None
        place = f"{claim['bundle']}/{NAME}"
        if not self._fs.exists(f"{self._root}/{place}"):
            self._create(place, manifest.data)  # its writer died; somebody else may be as fast
        return int(claims[-1]), manifest.sha256

    def bundles(self) -> dict[str, Manifest]:
        with _archive_errors():
            paths = {f"{self._root}/{name}/{NAME}": name for name in self.folders()}
            found = self._fs.cat(list(paths), on_error="omit") if paths else {}
            by_path = {str(path).lstrip("/"): data for path, data in found.items()}
            return manifests(
                {
                    name: by_path[path.lstrip("/")]
                    for path, name in paths.items()
                    if path.lstrip("/") in by_path
                }
            )

    def folders(self) -> Iterable[str]:
        with _archive_errors():
            return [n for n in self._names("", "directory") if not n.startswith(".")]

    def files(self, bundle: str) -> dict[str, int]:
        top = f"{self._root}/{bundle}/"
        with _archive_errors():
            found = self._fs.find(top, detail=True)
        sizes = {_below(path, top): int(info["size"]) for path, info in found.items()}
        return {name: size for name, size in sizes.items() if name != NAME}

    def read(self, bundle: str, file: str) -> bytes:
        with _archive_errors():
            return bytes(self._fs.cat_file(f"{self._root}/{bundle}/{file}"))

    def put_index(self, make: Callable[[], bytes]) -> None:
        # Of two that are made at once the older may win; the next run makes the page again.
        with _archive_errors():
            self._put(INDEX, make())

    def _names(self, folder: str, kind: str | None = None) -> list[str]:
        """Return the names of what is directly in a folder."""
        top = f"{self._root}/{folder}".rstrip("/")
        try:
            entries = self._fs.ls(top, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        names = [(_below(e["name"], top + "/"), e["type"]) for e in entries]
        return sorted(name for name, type_ in names if name and kind in (None, type_))

    def _put(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(f"{self._root}/{path}", data)

    def _create(self, path: str, data: bytes) -> bool:
        """Create a file; return whether it was not there before."""
        try:
            self._fs.pipe_file(f"{self._root}/{path}", data, mode="create")
        except FileExistsError:
            return False
        return True


_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""The package's extra that brings the way to a scheme."""


def _below(path: Any, top: str) -> str:
    """Return a path relative to a folder, whether or not a file system puts a slash in front."""
    return str(path).strip("/").removeprefix(top.lstrip("/"))


@contextmanager
def _archive_errors() -> Iterator[None]:
    """Turn whatever a store's own library raises into one error."""
    try:
        yield
    except (ArchiveError, UsageError):
        raise
    except Exception as error:  # each store has an exception tree of its own
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ArchiveError(reason.rstrip(".")) from error
