"""Verifying an archive: what was altered, added, removed or reordered since it was sealed.

Needs nothing but the files: no database, no server, no network beyond the archive's own place.
What the seal, the chain and the signature each prove is in docs/evidence.md.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runbook.archive.chain import ordered
from runbook.archive.manifest import NAME, Manifest, read_manifest
from runbook.archive.store import ArchiveError, Claim, Contents, Store, manifests

BEFORE = "the bundle before"
"""The object of a fault where a manifest follows one that is not there."""

_LINK = "It is a link, and no bundle: what it leads to was never sealed here."
_NO_MANIFEST = "There is no manifest: it was removed, or the bundle was never sealed."


class Kind(StrEnum):
    """What was done to the archive."""

    ALTERED = "altered"
    ADDED = "added"
    REMOVED = "removed"
    REORDERED = "reordered"
    UNTRUSTED = "untrusted"
    """Not signed by a key that is trusted."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is not as it was sealed."""

    bundle: str
    kind: Kind
    object: str
    """The file, or the bundle itself."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a verification."""

    bundles: tuple[str, ...]
    """The bundles that were looked at, in the order of the chain."""
    signers: Mapping[str, str | None]
    """The key that each is signed by; None where it is not signed."""
    first: str | None
    """The SHA-256 of the first manifest, which identifies the archive; None for a single bundle."""
    head: str | None
    """The SHA-256 of the newest manifest: whoever noted it elsewhere can show that nothing was cut
    off the chain's end since."""
    faults: tuple[Fault, ...]
    pending: tuple[str, ...] = ()
    """Those of the bundles whose manifest stands in the chain's last claim alone so far."""
    unfinished: tuple[str, ...] = ()
    """Folders that are no bundles: their upload did not come, or has not come, to its end."""


def verify_archive(
    store: Store, *, trusted: Collection[str] = (), head: str | None = None
) -> Verdict:
    """Verify every bundle and the chain between them.

    `trusted` are public keys, one of which must have signed each manifest; `head` is the hash of a
    manifest that must be there, the newest or another. Raises `ArchiveError` if the archive cannot
    be read.
    """
    contents = store.contents()
    found = manifests(contents.manifests)
    names = ordered(found)
    faults = [
        fault
        for name, data in contents.manifests.items()
        for fault in bundle_faults(store, name, data, trusted)
    ]
    faults += [_fault(name, Kind.ADDED, name, _LINK) for name in contents.links]
    faults += _chain_faults(found)
    faults += _claim_faults(contents, names)
    if head and head not in {manifest.sha256 for manifest in found.values()}:
        message = (
            f"No manifest has the SHA-256 {head}: bundles were cut off, one was altered, or this "
            "is another archive."
        )
        faults.append(_fault("", Kind.REMOVED, NAME, message))
    return Verdict(
        bundles=tuple(names),
        signers={name: found[name].signer for name in names},
        first=found[names[0]].sha256 if names else None,
        head=found[names[-1]].sha256 if names else None,
        faults=tuple(faults),
        pending=tuple(contents.pending),
        unfinished=tuple(contents.unfinished),
    )


def verify_bundle(store: Store, name: str, *, trusted: Collection[str] = ()) -> Verdict:
    """Verify one bundle by itself. Raises `ArchiveError` if it cannot be read."""
    data, is_pending = sealed_manifest(store, name)
    manifest = read_manifest(data) if data is not None else None
    return Verdict(
        bundles=(name,),
        signers={name: manifest.signer if manifest else None},
        first=None,
        head=manifest.sha256 if manifest else None,
        faults=tuple(bundle_faults(store, name, data, trusted)),
        pending=(name,) if is_pending else (),
    )


def sealed_manifest(store: Store, name: str) -> tuple[bytes | None, bool]:
    """Return a bundle's manifest, None where there is none, and whether so far it stands in the
    chain's last claim alone. Raises `ArchiveError` if neither can be read."""
    try:
        return store.read(name, NAME), False
    except ArchiveError:
        contents = store.contents()  # which tells a manifest that is gone from one yet to come
        return contents.manifests.get(name), name in contents.pending


def bundle_faults(
    store: Store, name: str, data: bytes | None, trusted: Collection[str]
) -> Iterator[Fault]:
    """Yield what is wrong with one bundle's files, seal and signature; `data` is its manifest."""
    if data is None:
        yield _fault(name, Kind.REMOVED, NAME, _NO_MANIFEST)
        return
    manifest = read_manifest(data)
    if manifest is None:
        yield _fault(name, Kind.ALTERED, NAME, "This is no manifest of the runbook, or no longer.")
        return
    if not manifest.is_sealed:
        message = "The manifest is not as it was sealed: its SHA-256 differs from its seal."
        yield _fault(name, Kind.ALTERED, NAME, message)
    yield from _signature_faults(name, manifest, trusted)
    if manifest.content.get("bundle") != name:
        message = f"It was archived as {manifest.content.get('bundle')!r} and was renamed."
        yield _fault(name, Kind.REORDERED, name, message)
    yield from _file_faults(store, name, manifest)


def _signature_faults(name: str, manifest: Manifest, trusted: Collection[str]) -> Iterator[Fault]:
    is_signed = manifest.content.get("signature") is not None
    if is_signed and not manifest.is_signature_good:
        message = "The signature is not of this manifest: one of them was altered."
        yield _fault(name, Kind.ALTERED, NAME, message)
    elif trusted and not is_signed:
        yield _fault(name, Kind.UNTRUSTED, NAME, "The manifest is not signed.")
    elif trusted and manifest.signer not in trusted:
        message = f"The manifest is signed by {manifest.signer}, which is not trusted."
        yield _fault(name, Kind.UNTRUSTED, NAME, message)


def _file_faults(store: Store, name: str, manifest: Manifest) -> Iterator[Fault]:
    """Yield the files that are not what the manifest lists."""
    files, sealed = store.files(name), listed(manifest)
    entries = manifest.content.get("files")
    if not isinstance(entries, list) or len(entries) != len(sealed):
        message = "Its list of files is no list, or names a file twice."
        yield _fault(name, Kind.ALTERED, NAME, message)
    for file in sorted(set(sealed) - set(files)):
        yield _fault(name, Kind.REMOVED, file, "The manifest lists it, and it is not there.")
    for file in sorted(set(files) - set(sealed)):
        yield _fault(name, Kind.ADDED, file, "It is there, and the manifest does not list it.")
    for file in sorted(set(files) & set(sealed)):
        size, digest = sealed[file]
        if files[file] < 0:
            message = "It is no regular file: what it leads to was never sealed."
        elif files[file] != size:
            message = f"It has {files[file]} bytes, and the manifest says {size}."
        elif store.digest(name, file) != digest:
            message = f"Its SHA-256 is not {digest}, as the manifest says."
        else:
            continue
        yield _fault(name, Kind.ALTERED, file, message)


def listed(manifest: Manifest) -> dict[str, tuple[object, object]]:
    """Return the size and hash of every file that a manifest lists, whatever was done to it."""
    files = manifest.content.get("files")
    entries = [one for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    return {str(one.get("name")): (one.get("bytes"), one.get("sha256")) for one in entries}


def _chain_faults(found: Mapping[str, Manifest]) -> Iterator[Fault]:
    """Yield where manifests do not follow each other, one after one."""
    hashes = {manifest.sha256 for manifest in found.values()}
    followers: dict[str | None, list[str]] = {}
    for name, manifest in sorted(found.items()):
        followers.setdefault(manifest.previous, []).append(name)
        if manifest.previous is not None and manifest.previous not in hashes:
            message = (
                f"The bundle before it, whose manifest has the SHA-256 {manifest.previous}, is not "
                "there: it was removed, or its manifest was altered."
            )
            yield _fault(name, Kind.REMOVED, BEFORE, message)
    for previous, names in followers.items():
        for name in names[1:]:
            what = "are both the first" if previous is None else "follow the same bundle"
            message = f"{name} and {names[0]} {what}: one of them was added, or altered."
            yield _fault(name, Kind.ADDED, name, message)


def _claim_faults(contents: Contents, names: Sequence[str]) -> Iterator[Fault]:
    """Yield where the places that were taken in the chain do not agree with the bundles in it.

    `names` are the bundles along the chain. Those before all that have a claim were copied from an
    archive that has none.
    """
    yield from _number_faults(contents.claims)
    for claim in contents.claims:
        yield from _place_faults(contents, claim)
    claimed = {claim.bundle for claim in contents.claims}
    first = next((n for n, name in enumerate(names) if name in claimed), len(names))
    for name in names[first:]:
        if name not in claimed:
            message = "It has no claim in the chain: it was added, or its claim is gone or altered."
            yield _fault(name, Kind.ADDED, name, message)


def _number_faults(claims: Sequence[Claim]) -> Iterator[Fault]:
    """Yield the claims that do not follow the one whose number comes before theirs."""
    number, manifest = 0, None
    for claim in claims:
        missing = claim.number - number - 1
        if missing:
            message = f"The claims right before it are not there: {missing:,}."
            yield _fault("", Kind.REMOVED, claim.path, message)
        elif manifest and claim.manifest and claim.manifest.previous != manifest.sha256:
            message = "Its manifest does not follow the one in the claim before it."
            yield _fault("", Kind.REORDERED, claim.path, message)
        number, manifest = claim.number, claim.manifest


def _place_faults(contents: Contents, claim: Claim) -> Iterator[Fault]:
    """Yield what is wrong with a place in the chain and the bundle that took it."""
    if claim.manifest is None:
        yield _fault("", Kind.ALTERED, claim.path, "It is damaged: it holds no sealed manifest.")
    elif claim.bundle not in contents.manifests:
        message = f"It is not there, and {claim.path} shows that it was archived."
        yield _fault(claim.bundle, Kind.REMOVED, claim.bundle, message)
    elif contents.manifests[claim.bundle] not in (None, claim.manifest.data):
        message = f"The manifest is not the one that took the place {claim.path}."
        yield _fault(claim.bundle, Kind.ALTERED, NAME, message)


def _fault(bundle: str, kind: Kind, object_: str, message: str) -> Fault:
    return Fault(bundle=bundle, kind=kind, object=object_, message=message)
