"""Where an archive is: a folder, or an object store that fsspec reaches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runbook.archive.manifest import Manifest, Position, read_manifest
from runbook.errors import UsageError

Seal = Callable[[Position], bytes]
"""Returns the manifest of a bundle once its place in the archive is known."""

INDEX = "index.html"


Only = Callable[[str], bool]
"""Whether a bundle of that name is wanted."""


def all_of_them(name: str) -> bool:
    """Return that every bundle is wanted."""
    return bool(name)


class ArchiveError(Exception):
    """The archive could not be written or read; `reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A numbered place in the chain, taken by a bundle before its manifest is written."""

    number: int
    path: str
    manifest: Manifest | None
    """The manifest that stands in it; None where the claim is damaged."""

    @property
    def bundle(self) -> str:
        """The name of the bundle that took it; empty where the claim is damaged."""
        return str(self.manifest.content["bundle"]) if self.manifest else ""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in an archive, read once."""

    manifests: Mapping[str, bytes | None]
    """The manifest of every folder that must be a bundle; None where there is none."""
    claims: Sequence[Claim] = ()
    """The places that were taken in the chain, in order, where the store has such."""
    pending: Sequence[str] = ()
    """Bundles whose manifest stands in their claim alone until the next writer completes them."""
    links: Sequence[str] = ()
    """Links in the place of bundles: they lead to what was never sealed here."""
    unfinished: Sequence[str] = ()
    """Folders that took no place in the chain: their writer died, or is still at work."""


class Store(Protocol):
    """An archive. Names that begin with a dot are its own and never a bundle's.

    Every method raises `ArchiveError` where the place cannot be read or written.
    """

    @property
    def location(self) -> str:
        """The folder's path or the URL."""

    def probe(self) -> None:
        """Make sure that bundles can be written, and that the chain has an end to follow."""

    def publish(self, stem: str, files: Mapping[str, bytes], seal: Seal) -> str:
        """Archive a bundle whole or not at all, as the last of the chain; return its name.

        The name is `stem`, with a number behind it where that is taken. However many processes
        publish at once, each manifest follows another one.
        """

    def bundles(self, only: Only = all_of_them) -> Mapping[str, Manifest]:
        """Return the manifest of every bundle whose name is wanted, by its name; what is none of
        ours is left alone."""

    def contents(self) -> Contents:
        """Return all that a verification compares, but for the bundles' files."""

    def folders(self) -> Iterable[str]:
        """Return the names of all folders that could be a bundle, those without manifest too."""

    def files(self, bundle: str) -> Mapping[str, int]:
        """Return everything below a bundle but its manifest: relative path and size in bytes."""

    def read(self, bundle: str, file: str) -> bytes:
        """Return a file of a bundle."""

    def digest(self, bundle: str, file: str) -> str:
        """Return the SHA-256 of a file of a bundle, however large it is; of what is no regular file
        the empty text."""

    def put_index(self, make: Callable[[], bytes]) -> None:
        """Replace the archive's front page by what is made now."""


def open_store(reports: str) -> Store:
    """Return the archive at a path or URL. Raises `UsageError` if no such kind can be reached."""
    scheme, separator, rest = reports.partition("://")
    if not separator:
        from runbook.archive.folder import FolderStore

        return FolderStore(reports)
    if scheme in ("file", "local"):
        from runbook.archive.folder import FolderStore

        return FolderStore(rest)
    if not rest.strip("/"):
        raise UsageError(f"The archive {reports!r} names no place.", "Give s3://bucket/folder.")
    from runbook.archive.objects import ObjectStore

    return ObjectStore(reports)


def opened(reports: str) -> Store:
    """Return the archive, after making sure that bundles can be written into it.

    Raises `UsageError` if they cannot.
    """
    store = open_store(reports)
    try:
        store.probe()
    except ArchiveError as error:
        raise UsageError(
            f"Reports cannot be written into {store.location}: {error.reason}.",
            "Nothing was changed. Give another place with --reports, or make this one writable.",
        ) from None
    return store


def manifests(found: Mapping[str, bytes | None]) -> dict[str, Manifest]:
    """Return those of the manifest files, by their bundles' names, that are ours."""
    read = {name: read_manifest(data) for name, data in found.items() if data is not None}
    return {name: manifest for name, manifest in read.items() if manifest is not None}


def free_name(stem: str, is_taken: Callable[[str], bool]) -> str:
    """Return the first of `stem`, `stem-2`, `stem-3` … that is not taken."""
    name, n = stem, 2
    while is_taken(name):
        name, n = f"{stem}-{n}", n + 1
    return name
