"""`runbook archive list | verify | push` and `runbook keygen`: the archive without a database."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook.cli.options import archive_options, key_option
from runbook.cli.terminal import say, say_json
from runbook.errors import UsageError
from runbook.visible import visible

if TYPE_CHECKING:
    from runbook.archive.store import Store
    from runbook.archive.verification import Fault, Verdict

CHECKS_FAILED = 4
"""The exit code where something is not as it was sealed."""


@click.group()
def archive() -> None:
    """List, verify and deliver archived reports. Needs no database."""


@archive.command("list")
@archive_options
def list_(reports: str, as_json: bool) -> None:
    """List every archived run, the newest last."""
    from runbook.archive.chain import ordered
    from runbook.archive.store import open_store

    store = open_store(reports)
    with reading(store):
        found, folders = store.bundles(), store.folders()
    if not found:
        raise _no_bundle(store)
    for name in sorted(set(folders) - found.keys()):
        say(f"Not listed: {visible(name)} has no manifest that can be read.", err=True)
    rows = [_entry(name, found[name].content) for name in ordered(found)]
    if as_json:
        say_json({"bundles": rows})
        return
    for row in rows:
        row["finished_at"] = (row["finished_at"] or "–").partition(".")[0].replace("T", " ")
    for line in _aligned([_HEAD, *(tuple(row.values()) for row in rows)]):
        say(line)


_HEAD = ("finished (UTC)", "migration", "step", "outcome", "rows", "checks", "database", "bundle")


def _entry(name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is listed of one bundle."""
    from runbook.report.found import mapping, mappings, number, text

    counts, checks = mapping(manifest.get("counts")), mappings(manifest.get("checks"))
    passed = sum(check.get("passed") is True for check in checks)
    return {
        "finished_at": text(manifest.get("finished_at")) or None,
        "migration": text(manifest.get("migration")) or None,
        "step": text(manifest.get("step")) or None,
        "outcome": text(manifest.get("outcome")) or None,
        "rows": number(
            (mapping(counts.get("after")) or mapping(counts.get("before"))).get("total")
        ),
        "checks": f"{passed}/{len(checks)}" if checks else None,
        "database": text(mapping(manifest.get("database")).get("name")) or None,
        "bundle": name,
    }


def _aligned(rows: list[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the rows as lines, numbers flush right."""
    texts = [[_text(item) for item in row] for row in rows]
    widths = [max(len(row[n]) for row in texts) for n in range(len(texts[0]))]
    numeric = [any(isinstance(row[n], int) for row in rows) for n in range(len(texts[0]))]
    for row in texts:
        cells = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _text(item: object) -> str:
    if item is None:
        return "–"
    return f"{item:,}" if isinstance(item, int) else visible(str(item))


@archive.command()
@archive_options
@click.option(
    "--trusted-key",
    "trusted",
    multiple=True,
    metavar="KEY",
    help="A public key that must have signed: its file, or the base64 that keygen printed; given "
    "several times, any of them.",
)
@click.option(
    "--head",
    metavar="SHA256",
    help="The hash of a manifest, the newest or an earlier one, that must be in the archive.",
)
@click.argument("bundle", required=False)
def verify(
    reports: str, as_json: bool, trusted: tuple[str, ...], head: str | None, bundle: str | None
) -> None:
    """Say what was altered, added, removed or reordered.

    Verifies the whole archive, or one BUNDLE by its name or its path. Ends with 0 if all is as it
    was sealed; with 4 if anything is not, if a manifest is not signed by a key that is trusted, or
    if the one that --head demands is not there; with 2 if there is no archive, no bundle or no key
    by the name given.
    """
    from runbook.archive.keys import public_key
    from runbook.archive.store import open_store
    from runbook.archive.verification import verify_archive, verify_bundle

    keys = [public_key(given) for given in trusted]
    if head is not None:
        head = head.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{64}", head):
            raise UsageError(
                f"--head takes the SHA-256 of a manifest, and {head[:80]!r} is none.",
                "Give all 64 hexadecimal digits that `runbook archive verify` printed.",
            )
        if bundle:
            raise UsageError(
                "--head goes with the whole archive, not with one bundle.",
                "Leave the bundle or --head away.",
            )
    store, name = find_bundle(reports, bundle) if bundle else (open_store(reports), "")
    with reading(store):
        verdict = (
            verify_bundle(store, name, trusted=keys)
            if name
            else verify_archive(store, trusted=keys, head=head)
        )
    if not verdict.bundles and not verdict.faults:
        raise _no_bundle(store)
    if as_json:
        say_json({"passed": not verdict.faults, **asdict(verdict)})
    else:
        _tell(verdict, bool(keys))
    click.get_current_context().exit(CHECKS_FAILED if verdict.faults else 0)


_PENDING = (
    "Its manifest so far stands in the chain's last claim alone; the next run puts it in its place."
)
_UNFINISHED = (
    "Its upload did not come to its end: it is no evidence, and may be removed unless a run is "
    "still writing it."
)


def _tell(verdict: "Verdict", is_trusting: bool) -> None:
    """Say what came of a verification, to a person."""
    for fault in verdict.faults:
        place = visible(_place(fault))
        say(fault.kind.upper(), fg="red", bold=True, after=f" {place}")
        say(f"  {visible(fault.message)}")
    for name in verdict.pending:
        say("PENDING", fg="yellow", bold=True, after=f" {name}")
        say(f"  {_PENDING}")
    for name in verdict.unfinished:
        say("UNFINISHED", fg="yellow", bold=True, after=f" {name}")
        say(f"  {_UNFINISHED}")
    count = len(verdict.bundles)
    bundles = f"{count:,} bundle{'' if count == 1 else 's'}"
    if verdict.faults:
        faults = f"{len(verdict.faults):,} fault{'' if len(verdict.faults) == 1 else 's'}"
        say(f"{bundles} verified, {faults} found.")
        for sentence in _remedies(verdict.faults):
            say(f"  {sentence}")
        return
    signed = sum(signer is not None for signer in verdict.signers.values())
    by = "all signed by a trusted key" if is_trusting else f"{signed:,} signed"
    say("verified", fg="green", bold=True, after=f": {bundles} as sealed, {by}.")
    if verdict.first:
        say(f"  first manifest's SHA-256, which identifies the archive: {verdict.first}")
    say(f"  {'newest' if verdict.first else 'its'} manifest's SHA-256: {verdict.head}")
    if not is_trusting:
        say("  Only a signature, with --trusted-key, shows who sealed them.")


def _place(fault: "Fault") -> str:
    """Return where a fault is, to a person."""
    from runbook.archive.verification import BEFORE

    if fault.object == BEFORE:
        return f"{BEFORE} {fault.bundle}"
    return "/".join(filter(None, dict.fromkeys((fault.bundle, fault.object))))


def _remedies(faults: "Sequence[Fault]") -> Iterator[str]:
    """Yield what to do about faults, a sentence for each of their two sorts."""
    from runbook.archive.verification import Kind

    untrusted = [fault.kind is Kind.UNTRUSTED for fault in faults]
    if not all(untrusted):
        yield "What is named above proves nothing: restore it from a copy, and verify again."
    if any(untrusted):
        yield "Anybody may have made what is UNTRUSTED: give every key that you trust."


@contextmanager
def reading(store: "Store") -> Iterator[None]:
    """Make wrong usage of what keeps an archive from being read."""
    from runbook.archive.store import ArchiveError

    try:
        yield
    except ArchiveError as error:
        raise UsageError(
            f"The archive {store.location} cannot be read: {error.reason}.",
            "Check that --reports names it, and that this account may read there.",
        ) from None


def _no_bundle(store: "Store") -> UsageError:
    """Return what to say of an archive without bundles, which may be a bundle itself."""
    from runbook.archive.manifest import NAME
    from runbook.archive.store import ArchiveError, open_store

    folder, _, name = store.location.rpartition("/")
    with suppress(ArchiveError, UsageError):
        open_store(folder or "/").read(name, NAME)
        return UsageError(
            f"{store.location} is a bundle, not an archive.",
            f"Give it without --reports: runbook archive verify {store.location}",
        )
    return UsageError(
        f"There is no bundle in {store.location}.", "Name the archive with --reports."
    )


def find_bundle(reports: str, given: str) -> tuple["Store", str]:
    """Return a bundle's archive and name, from its path, its URL, or its name in the archive.

    Raises `UsageError` if it is not there, or is a whole archive.
    """
    from runbook.archive.store import open_store

    place = given.rstrip("/")
    if "://" not in place and Path(place).expanduser().is_dir():
        place = str(Path(place).expanduser().absolute())
    elif "/" not in place:
        place = f"{reports.rstrip('/')}/{place}"
    folder, _, name = place.rpartition("/")
    store = open_store(folder or "/")
    if _is_archive(store, name):
        raise UsageError(
            f"{given} is an archive, not a bundle.",
            f"Give it with --reports: runbook archive verify --reports {given}",
        )
    if not _is_there(store, name):
        raise UsageError(
            f"There is no bundle {given}.", "Give its path, or its name and --reports."
        )
    return store, name


def _is_there(store: "Store", name: str) -> bool:
    """Return whether an archive has a folder of this name."""
    from runbook.archive.store import ArchiveError

    try:
        return name in store.folders()
    except ArchiveError:
        return False


def _is_archive(store: "Store", name: str) -> bool:
    """Return whether a folder is no bundle, but has bundles in it."""
    from runbook.archive.manifest import NAME
    from runbook.archive.store import ArchiveError, open_store

    with suppress(ArchiveError):
        store.read(name, NAME)
        return False
    with suppress(ArchiveError):
        return bool(open_store(f"{store.location}/{name}").bundles())
    return False


@archive.command()
@click.option("--reports", metavar="PLACE", help="Deliver there. Default: where each belongs.")
@key_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def push(reports: str | None, as_json: bool) -> None:
    """Deliver what waits in the spool. Ends with 1 if anything still waits."""
    from runbook.archive.keys import signing_key
    from runbook.archive.spool import push as deliver

    delivered = []
    for one in deliver(reports, signing_key()):
        delivered.append(one)
        if one.bundle:
            say(f"delivered  {one.bundle.location}", err=as_json)
        else:
            problem = visible(f"{one.name}: {one.problem} ({one.target})")
            say(f"waiting    {problem}", err=as_json)
    if as_json:
        say_json({"delivered": [asdict(one) for one in delivered]})
    elif not delivered:
        say("Nothing waits in the spool.")
    is_empty = all(one.bundle for one in delivered)
    if not is_empty:
        say("Remove what is in the way, or name another archive; then push again.", err=True)
    click.get_current_context().exit(0 if is_empty else 1)


@click.command()
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
@click.argument("file", type=click.Path(path_type=Path))
def keygen(file: Path) -> None:
    """Make an Ed25519 key to sign reports with. Writes FILE (private) and FILE.pub (public)."""
    from runbook.archive.keys import make_key

    public = make_key(file)
    say(f"private key  {file} (keep it secret: --signing-key or RUNBOOK_SIGNING_KEY)")
    say(f"public key   {file}.pub (give it to whoever verifies: --trusted-key)")
    say(f"             {public}")
