"""Who vouches for a recorded plan that is not made again: an archive, or a person."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from runbook.archive.approval import vouching_bundle, vouching_run
from runbook.archive.keys import public_key, signing_key
from runbook.archive.store import ArchiveError, open_store
from runbook.facts import LedgerEntry, Server
from runbook.plan import applied
from runbook.plan.remade import Vouch
from runbook.spec import Spec

if TYPE_CHECKING:
    from runbook.notebook.session import Session
    from runbook.parameters import ContractParameters, RollbackParameters


def is_vouched(
    reports: str,
    sha256: str,
    spec: Spec,
    server: Server,
    *,
    approved: str = "",
    keys: str = "",
) -> bool:
    """Return whether a plan of that hash may be run as it was recorded: a person named its hash, or
    a bundle of the archive has it, for this migration and database. Where keys are given, or the
    run signs, the bundle must be signed by one of them.
    """
    if approved.strip().lower() == sha256:
        return True
    try:
        store = open_store(reports)
        return bool(vouching_bundle(store, sha256, spec.name, server, trusted_keys(keys)))
    except ArchiveError:
        return False


def why_unproved(session: "Session[Any]", entry: LedgerEntry) -> str:
    """Return why an applied run is no more than the ledger's word, in a few words; '' where nobody
    but trusted roles can have written its row, or where the archive has the run's own bundle, which
    says the same: signed by a trusted key, where keys are given or the run signs."""
    server = session.catalog.server
    why = applied.why_unproved(entry, session.catalog.ledger_writers)
    if not why or applied.altered(entry):
        return why
    try:
        store = open_store(session.parameters.reports)
        keys = trusted_keys(session.named_keys)
        return "" if vouching_run(store, entry, server, keys) else why
    except ArchiveError:
        return why


def vouched(session: "Session[RollbackParameters] | Session[ContractParameters]") -> Vouch:
    """Return what asks who vouches for the plan of a run that is recorded where a session is."""
    given = session.parameters
    return lambda sha256: is_vouched(
        given.reports,
        sha256,
        session.spec,
        session.catalog.server,
        approved=given.approved_plan,
        keys=given.trusted_keys,
    )


def trusted_keys(named: str) -> Collection[str]:
    """Return the public keys of which one must have signed: those that are named, by commas, else
    the run's own, if it signs. Raises `UsageError` for what is no key."""
    keys = [one.strip() for one in named.split(",") if one.strip()]
    if keys:
        return tuple(public_key(one) for one in keys)
    own = signing_key()
    return (own.public,) if own else ()
