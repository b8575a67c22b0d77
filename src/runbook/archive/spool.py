"""The spool: where a bundle stays that could not be delivered to its archive.

A spooled bundle is sealed like any other and stands alone in its chain; delivering it gives it its
place in the archive's chain and seals it anew.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from runbook.archive.bundle import Bundle, bundle_stem, write_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import NAME, Manifest, Position, make_manifest
from runbook.archive.store import ArchiveError, opened
from runbook.archive.verification import Fault, verify_bundle
from runbook.record import Record

VARIABLE = "RUNBOOK_SPOOL"
"""The environment variable that names the spool's folder."""

_TARGET = ".target"


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A bundle that waits for delivery."""

    path: Path
    target: str
    """The archive that it belongs to."""
    manifest: Manifest


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What came of one spooled bundle."""

    name: str
    target: str
    bundle: Bundle | None
    """Where it is now; None where it could not be delivered."""
    problem: str = ""


def spool_folders() -> list[Path]:
    """Return where bundles may be spooled, the best place first."""
    if os.environ.get(VARIABLE):
        return [Path(os.environ[VARIABLE]).expanduser()]
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    temporary = Path(tempfile.gettempdir()) / f"runbook-spool-{os.getuid()}"
    return [state.expanduser() / "runbook" / "spool", temporary]


def spool(
    record: Record, files: Mapping[str, bytes], target: str, key: SigningKey | None
) -> Path | None:
    """Keep a bundle until it is delivered; return its folder, or None if nothing can be kept."""

    def seal(position: Position) -> bytes:
        return make_manifest(record, files, Position(bundle=position.bundle, previous=None), key)

    for folder in spool_folders():
        with suppress(ArchiveError, OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            name = FolderStore(folder).publish(bundle_stem(record), files, seal)
            (folder / f"{name}{_TARGET}").write_text(target, "utf-8")
            return folder / name
    return None


def spooled() -> Iterator[Spooled]:
    """Yield what waits, the oldest first."""
    for folder in spool_folders():
        if not folder.is_dir():
            continue
        found = FolderStore(folder).bundles()
        for name in sorted(found, key=lambda name: str(found[name].content.get("finished_at"))):
            note = folder / f"{name}{_TARGET}"
            target = note.read_text("utf-8") if note.is_file() else ""
            yield Spooled(path=folder / name, target=target, manifest=found[name])


def push(reports: str | None, key: SigningKey | None) -> Iterator[Delivered]:
    """Deliver what waits, to `reports` or to where each belongs; yield what came of each.

    A bundle that is in the archive already is not archived twice. Raises `UsageError` if an
    archive cannot be written.
    """
    for one in spooled():
        target = reports or one.target or "reports"
        name = one.path.name
        faults = verify_bundle(FolderStore(one.path.parent), name).faults
        if faults:
            yield Delivered(name=name, target=target, bundle=None, problem=_altered(faults))
            continue
        try:
            bundle = _deliver(one, target, key)
        except ArchiveError as error:
            yield Delivered(name=name, target=target, bundle=None, problem=error.reason)
            continue
        rmtree(one.path)
        one.path.with_name(f"{name}{_TARGET}").unlink(missing_ok=True)
        yield Delivered(name=name, target=target, bundle=bundle)


def _deliver(one: Spooled, target: str, key: SigningKey | None) -> Bundle:
    """Archive a spooled bundle, unless it is there already."""
    store = opened(target)
    content = one.manifest.content
    for name, there in store.bundles().items():
        if there.content.get("run_id") and there.content["run_id"] == content.get("run_id"):
            return Bundle(name=name, location=f"{store.location}/{name}")
    record = Record.model_validate(
        {name: item for name, item in content.items() if name in Record.model_fields}
    )
    files = {
        path.name: path.read_bytes() for path in sorted(one.path.iterdir()) if path.name != NAME
    }
    return write_bundle(store, record, files, key)


def _altered(faults: tuple[Fault, ...]) -> str:
    first = faults[0]
    return f"{first.object} was {first.kind} in the spool: {first.message}"
