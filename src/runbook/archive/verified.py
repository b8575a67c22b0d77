"""Bundles that others decide by: what was verified is what is used.

Whoever may write in the archive may put other bytes there between two reads. So whatever trusts a
bundle (an approval, a vouching, a delivery that seals it anew) takes it from here alone: the
manifest is the one whose bytes were verified, and a file is handed out only if the very bytes that
were read have the hash that stands in it.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.archive.chain import ordered
from runbook.archive.manifest import Manifest, read_manifest
from runbook.archive.store import ArchiveError, Only, Store, all_of_them
from runbook.archive.verification import Fault, bundle_faults, listed, sealed_manifest


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A bundle that is as it was sealed, and signed by a trusted key where such were given."""

    name: str
    manifest: Manifest
    """The manifest that was verified, which nobody can alter any more."""
    _store: Store

    @property
    def content(self) -> Mapping[str, Any]:
        """What the manifest says."""
        return self.manifest.content

    def file(self, name: str) -> bytes:
        """Return a file of the bundle. Raises `ArchiveError` where it is not as it was sealed."""
        return self.as_sealed(name, self._store.read(self.name, name))

    def as_sealed(self, name: str, data: bytes) -> bytes:
        """Return what was read of a file. Raises `ArchiveError` where other bytes were sealed."""
        made = len(data), hashlib.sha256(data).hexdigest()
        if listed(self.manifest).get(name) != made:
            raise ArchiveError(f"{self.name}/{name} was altered while it was read")
        return data


@dataclass(frozen=True, kw_only=True)
class Unsound:
    """A bundle that is not as it was sealed, or not signed by a trusted key. It has no content."""

    name: str
    faults: tuple[Fault, ...]
    """At least one."""


def verified(store: Store, name: str, *, trusted: Collection[str] = ()) -> Verified | Unsound:
    """Read and verify one bundle. Raises `ArchiveError` if it cannot be read."""
    return _verified(store, name, sealed_manifest(store, name)[0], trusted)


def newest_first(
    store: Store,
    wanted: Callable[[Mapping[str, Any]], bool],
    *,
    trusted: Collection[str] = (),
    only: Only = all_of_them,
) -> Iterator[Verified | Unsound]:
    """Yield the bundles that are wanted by what their manifest says, and by their name, verified.

    Each manifest is read once: what `wanted` is asked about is what is verified.
    """
    found = store.bundles(only)
    for name in reversed(ordered(found)):
        if wanted(found[name].content):
            yield _verified(store, name, found[name].data, trusted)


def _verified(
    store: Store, name: str, data: bytes | None, trusted: Collection[str]
) -> Verified | Unsound:
    faults = tuple(bundle_faults(store, name, data, trusted))
    manifest = read_manifest(data) if data is not None else None
    if faults or manifest is None:
        return Unsound(name=name, faults=faults)
    return Verified(name=name, manifest=manifest, _store=store)
