"""An archive in an object store, by fsspec: `s3://`, `gs://`, `az://`, `memory://`.

An object store has no rename and no lock; what it has is an exclusive create (S3: If-None-Match,
Google: ifGenerationMatch=0, Azure: overwrite=False), which fsspec calls `mode="create"`. So:

1. the bundle's name is reserved by creating its first file exclusively, then the others follow;
2. its place in the chain is claimed by creating `.chain/<number>` exclusively, which holds the
   manifest; who loses makes the manifest anew, behind the winner's;
3. the manifest is written, last: a folder with a manifest is a whole bundle.

A writer that dies between 2 and 3 has said everything in its claim; the next one completes it. One
that dies before 2 leaves a folder that is no bundle.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runbook.archive.chain import head
from runbook.archive.manifest import NAME, Manifest, Position, read_manifest
from runbook.archive.store import (
    INDEX,
    ArchiveError,
    Claim,
    Contents,
    Only,
    Seal,
    all_of_them,
    free_name,
    manifests,
)
from runbook.errors import UsageError

_CHAIN = ".chain"
_CLAIM = _CHAIN + "/{:08d}"
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
            self._last_place()

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
            if self._create(_CLAIM.format(number + 1), json.dumps(claim).encode()):
                return manifest

    def _last_place(self) -> tuple[int, str | None]:
        """Return the last place that is taken, and the hash of the manifest in it.

        Completes the bundle that took it. Raises `ArchiveError` if the claim is damaged.
        """
        numbers = self._numbers()
        if not numbers:
            return 0, head(self.bundles())
        (claim,) = self._claims(numbers[-1:])
        if claim.manifest is None:
            raise ArchiveError(f"the claim {claim.path} is damaged, so the chain's end is unknown")
        place = f"{claim.bundle}/{NAME}"
        if not self._fs.exists(f"{self._root}/{place}"):
            self._create(place, claim.manifest.data)  # somebody else may be as fast
        return claim.number, claim.manifest.sha256

    def _numbers(self) -> list[int]:
        """Return the places that are taken, in order."""
        names = [name for name in self._names(_CHAIN) if name.isascii() and name.isdigit()]
        return sorted(int(name) for name in names if _CLAIM.format(int(name)) == f"{_CHAIN}/{name}")

    def _claims(self, numbers: Sequence[int]) -> list[Claim]:
        """Return what stands in places of the chain."""
        paths = {number: _CLAIM.format(number) for number in numbers}
        found = self._read_all(paths.values())
        return [
            Claim(number=number, path=path, manifest=_claimed(found.get(path, b"")))
            for number, path in paths.items()
        ]

    def bundles(self, only: Only = all_of_them) -> dict[str, Manifest]:
        with _archive_errors():
            return manifests(self._manifests(filter(only, self.folders())))

    def contents(self) -> Contents:
        with _archive_errors():
            found = self._manifests(self.folders())
            # Writers may be at work. Claims are read after the manifests, so that each of these has
            # its claim among them, and what the claims name and was not there yet after the claims.
            claims = self._claims(self._numbers())
            claimed = {claim.bundle for claim in claims}
            folders = self.folders()
            found |= self._manifests(claimed.intersection(folders) - found.keys())
        # Whoever takes a place has completed the bundle in the place before, so that only the last
        # may lack its manifest and be none the worse for it.
        pending = {
            claim.bundle: claim.manifest.data
            for claim in claims[-1:]
            if claim.manifest and claim.bundle in folders and claim.bundle not in found
        }
        # Bundles without any claim were copied here, and one of them may have lost its manifest.
        is_copy = bool(found) and not claims
        found |= pending
        bundles = [name for name in folders if is_copy or name in claimed or name in found]
        return Contents(
            manifests={name: found.get(name) for name in bundles},
            claims=claims,
            pending=list(pending),
            unfinished=sorted(set(folders) - set(bundles)),
        )

    def _manifests(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the manifests of folders, by their names, where they have one."""
        paths = {f"{name}/{NAME}": name for name in names}
        return {paths[path]: data for path, data in self._read_all(paths).items()}

    def folders(self) -> list[str]:
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

    def digest(self, bundle: str, file: str) -> str:
        with _archive_errors(), self._fs.open(f"{self._root}/{bundle}/{file}", "rb") as found:
            made = hashlib.sha256()
            while block := found.read(2**20):
                made.update(block)
            return made.hexdigest()

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

    def _read_all(self, paths: Collection[str]) -> dict[str, bytes]:
        """Return the files that are there, by their paths in the archive."""
        places = {f"{self._root}/{path}".lstrip("/"): path for path in paths}
        if not places:
            return {}
        found = self._fs.cat([f"{self._root}/{path}" for path in paths], on_error="return")
        for answer in found.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
        return {
            places[str(place).lstrip("/")]: bytes(answer)
            for place, answer in found.items()
            if not isinstance(answer, Exception)
        }

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


def _claimed(data: bytes) -> Manifest | None:
    """Return the manifest that stands in a claim; None where the claim is not as it was written."""
    try:
        content = json.loads(data)
        bundle, manifest = content["bundle"], read_manifest(content["manifest"].encode())
        is_name = "/" not in bundle and not bundle.startswith(".")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if manifest is None or not is_name or manifest.content.get("bundle") != bundle:
        return None
    return manifest if manifest.is_sealed else None


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
