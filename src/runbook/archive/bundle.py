"""Writing a bundle: files and sealed manifest, whole or not at all, and the page that lists it."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from runbook.archive.chain import ordered
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import Position, make_manifest
from runbook.archive.store import Seal, Store
from runbook.record import Record


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An archived run."""

    name: str
    location: str
    """Its folder's path or URL."""
    manifest_sha256: str
    """The SHA-256 of its manifest."""

    @property
    def report(self) -> str:
        """Where its report is."""
        return f"{self.location}/report.html"


def write_bundle(
    store: Store,
    record: Record,
    files: Mapping[str, bytes],
    key: SigningKey | None = None,
    *,
    lists: bool = True,
) -> Bundle:
    """Archive files and manifest as one bundle. Raises `ArchiveError` if that is not possible."""
    return publish_bundle(
        store,
        bundle_stem(record),
        files,
        lambda position: make_manifest(record, files, position, key),
        lists=lists,
    )


def publish_bundle(
    store: Store, stem: str, files: Mapping[str, bytes], seal: Seal, *, lists: bool = True
) -> Bundle:
    """Archive files with the manifest that `seal` makes, and list them on the archive's page.

    `lists` is whether the page is made; a fleet makes it once, and not for each target. Raises
    `ArchiveError` if the bundle cannot be archived.
    """
    sealed = b""

    def seal_and_keep(position: Position) -> bytes:
        nonlocal sealed
        sealed = seal(position)
        return sealed

    name = store.publish(stem, files, seal_and_keep)
    # The bundle is archived. Whatever becomes of the page, the next run makes it again.
    if lists:
        with suppress(Exception):
            store.put_index(lambda: make_index(store))
    return Bundle(
        name=name,
        location=f"{store.location}/{name}",
        manifest_sha256=hashlib.sha256(sealed).hexdigest(),
    )


def bundle_stem(record: Record) -> str:
    """Return a bundle's name: UTC time, migration, step, outcome."""
    moment = (record.finished_at or record.started_at).replace("-", "").replace(":", "")
    migration = re.sub(r"[^A-Za-z0-9_-]", "_", record.migration)[:40]
    return f"{moment.partition('.')[0]}Z-{migration}-{record.step}-{record.outcome}"


def make_index(store: Store) -> bytes:
    """Return the archive's front page: every bundle, the newest first."""
    from runbook.report.index import index_page

    found = store.bundles()
    return index_page([(name, found[name].content) for name in reversed(ordered(found))])
