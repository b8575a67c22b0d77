"""What an earlier course of a fleet did, as the archive has it: nothing else keeps it."""

from collections.abc import Iterator, Mapping

from runbook.archive.chain import ordered
from runbook.archive.store import open_store
from runbook.errors import UsageError
from runbook.fleet.result import Result


def resumed(reports: str, fleet: str) -> tuple[str, dict[str, Result]]:
    """Return the identifier of the fleet's newest course, and what became of each target in it.

    A target whose run left no bundle is not among them: it is run again, and finds for itself how
    the database is. Raises `UsageError` where the archive holds no run of the fleet.
    """
    newest, found = "", dict[str, dict[str, Result]]()
    for fleet_id, result in _of(reports, fleet):
        newest = fleet_id
        found.setdefault(fleet_id, {})[result.target] = result
    if not newest:
        raise UsageError(
            f"The archive {reports} holds no run of the fleet {fleet!r}.",
            "Start it without --resume; a target that is migrated is found to be.",
        )
    return newest, found[newest]


def _of(reports: str, fleet: str) -> Iterator[tuple[str, Result]]:
    """Yield what became of targets, with their course's identifier, in the archive's order."""
    manifests = open_store(reports).bundles()
    for name in ordered(manifests):
        content = manifests[name].content
        own = content.get("fleet")
        if isinstance(own, Mapping) and own.get("name") == fleet and "target" in own:
            sha256 = manifests[name].sha256
            yield own["id"], Result.of(content, bundle=name, manifest_sha256=sha256)
