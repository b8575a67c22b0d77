"""The chain: each manifest names the hash of the one before, and so their order."""

from collections.abc import Mapping

from runbook.archive.manifest import Manifest


def ordered(manifests: Mapping[str, Manifest]) -> list[str]:
    """Return the bundles' names along the chain, the first bundle first.

    Times of files are no guide: copies and object stores do not keep them. Where the chain is
    broken, its pieces stand one after the other, by the names of their first bundles.
    """
    by_hash = {manifest.sha256: name for name, manifest in manifests.items()}
    followers: dict[str, list[str]] = {}
    starts: list[str] = []
    for name, manifest in sorted(manifests.items()):
        before = by_hash.get(manifest.previous or "")
        (starts if before is None else followers.setdefault(before, [])).append(name)
    found: list[str] = []
    for start in starts:
        waiting = [start]
        while waiting:
            name = waiting.pop()
            found.append(name)
            waiting.extend(reversed(followers.get(name, [])))
    return found


def head(manifests: Mapping[str, Manifest]) -> str | None:
    """Return the hash of the manifest that was archived last, or None where there is none."""
    names = ordered(manifests)
    return manifests[names[-1]].sha256 if names else None
