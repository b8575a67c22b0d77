"""The spool: where a bundle stays that could not be delivered to its archive.

A spooled bundle is sealed like any other and stands alone in its chain; delivering it gives it its
place in the archive's chain and seals it anew.
"""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from runbook.archive.bundle import Bundle, bundle_stem, publish_bundle
from runbook.archive.folder import FolderStore
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import NAME, Manifest, Position, make_manifest, moved_manifest
from runbook.archive.store import ArchiveError, opened
from runbook.archive.verification import Fault, Kind
from runbook.archive.verified import Unsound, Verified, newest_first, verified
from runbook.errors import UsageError
from runbook.placed import locked, replace_file
from runbook.record import Record

VARIABLE = "RUNBOOK_SPOOL"
"""The environment variable that names the spool's folder."""

_TARGET = ".target"
_PUSHING = ".push"

_IDENTITY = ("run_id", "step", "started_at", "files")
"""What two manifests of one run have in common; a lost kernel leaves no run's id."""


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

    notes: list[Path] = []
    for folder in spool_folders():

        def seal(position: Position, folder: Path = folder) -> bytes:
            # Where it belongs is on disk before the bundle is.
            notes.append(folder / f"{position.bundle}{_TARGET}")
            replace_file(notes[-1], target.encode())
            return make_manifest(
                record, files, Position(bundle=position.bundle, previous=None), key
            )

        with suppress(ArchiveError, OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_own(folder):
                continue
            return folder / FolderStore(folder).publish(bundle_stem(record), files, seal)
    return None


def _is_own(folder: Path) -> bool:
    """Return whether nobody but this account can write into a folder: who can put a bundle into
    the spool has it archived and signed."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def spooled() -> Iterator[Spooled]:
    """Yield what waits, the oldest first."""
    for folder in spool_folders():
        if not folder.is_dir() or not _is_own(folder):
            continue
        found = FolderStore(folder).bundles()
        for name in sorted(found, key=lambda name: str(found[name].content.get("finished_at"))):
            note = folder / f"{name}{_TARGET}"
            target = note.read_text("utf-8") if note.is_file() else ""
            yield Spooled(path=folder / name, target=target, manifest=found[name])


def push(reports: str | None, key: SigningKey | None) -> Iterator[Delivered]:
    """Deliver what waits, to `reports` or to where each belongs; yield what came of each.

    A bundle that is in the archive already is not archived twice. With a key only bundles are
    delivered that were signed by it when they were spooled: what is sealed anew must not be given
    a signature that it never had.
    """
    for one in spooled():
        target = reports or one.target
        try:
            with locked(one.path.parent / _PUSHING):
                if not one.path.is_dir():
                    continue  # somebody else has just delivered it
                bundle, problem = _deliver(one, target, key)
                if bundle:
                    _forget(one)
        except ArchiveError as error:
            bundle, problem = None, error.reason
        except (UsageError, OSError, ValueError) as error:
            bundle, problem = None, getattr(error, "message", "") or str(error)
        yield Delivered(name=one.path.name, target=target, bundle=bundle, problem=problem)


def _forget(one: Spooled) -> None:
    """Remove what was delivered; the next push finds in the archive what could not be removed."""
    rmtree(one.path, ignore_errors=True)
    with suppress(OSError):
        one.path.with_name(f"{one.path.name}{_TARGET}").unlink()


def _deliver(one: Spooled, target: str, key: SigningKey | None) -> tuple[Bundle | None, str]:
    """Archive a spooled bundle, unless it is there already; return where, or why not."""
    trusted = [key.public] if key else []
    found = verified(FolderStore(one.path.parent), one.path.name, trusted=trusted)
    if isinstance(found, Unsound):
        return None, _altered(found.faults)
    if not target:
        return None, "where it belongs was not noted: name the archive with --reports"
    store, content = opened(target), found.content
    for there in newest_first(
        store, lambda other: all(other.get(key) == content.get(key) for key in _IDENTITY)
    ):
        if isinstance(there, Verified):
            place = f"{store.location}/{there.name}"
            return Bundle(
                name=there.name, location=place, manifest_sha256=there.manifest.sha256
            ), ""
    files = {
        path.name: found.as_sealed(path.name, path.read_bytes())
        for path in sorted(one.path.iterdir())
        if path.name != NAME
    }
    bundle = publish_bundle(
        store,
        one.path.name,
        files,
        lambda position: moved_manifest(found.manifest, position, key),
    )
    return bundle, ""


def _altered(faults: tuple[Fault, ...]) -> str:
    first = faults[0]
    if first.kind is Kind.UNTRUSTED:
        return "it was not signed by this key when it was spooled: push it without the key"
    return f"{first.object} was {first.kind} in the spool: {first.message}"
