"""Approvals: a bundle of its own, which says who approved the plan of which review.

It is sealed, chained and signed as every bundle is, so that nothing else has to be verified.
"""

import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runbook.archive.bundle import Bundle, write_bundle
from runbook.archive.keys import SigningKey
from runbook.archive.store import ArchiveError, Only, Store, all_of_them
from runbook.archive.verified import Unsound, Verified, newest_first, verified
from runbook.errors import Outcome, RefusedError
from runbook.facts import LedgerEntry, Server
from runbook.record import Approval, Database, PlanRecord, Record, now
from runbook.report.found import mapping, mappings

STEP = "approve"
FILE = "approval.json"
PLAN = "plan.json"


@dataclass(frozen=True, kw_only=True)
class ArchivedApproval(Bundle):
    """An approval that was archived."""

    plan: PlanRecord
    """The plan, as it was approved."""


def approve(
    store: Store, review: str, *, by: str, note: str, key: SigningKey | None
) -> ArchivedApproval:
    """Archive the approval of a review's plan; return its bundle.

    Raises `RefusedError` if the bundle is no review that succeeded, or is not as it was sealed;
    `ArchiveError` if the archive cannot be read or written.
    """
    found = verified(store, review)
    if isinstance(found, Unsound):
        raise RefusedError(
            f"Bundle {review} is not as it was sealed: {found.faults[0].object}: "
            f"{found.faults[0].message}",
            "Nothing was approved. Find out what was done to it, and review again.",
        )
    content = found.content
    plan = content.get("plan")
    if content.get("step") != "review" or content.get("outcome") != Outcome.SUCCEEDED or not plan:
        raise RefusedError(
            f"Bundle {review} is a {content.get('step')} that ended as {content.get('outcome')}, "
            "and only a review that succeeded has a plan to approve.",
            "Run the review, read it, and name its bundle.",
        )
    approval = Approval(
        by=by,
        at=now(),
        note=note,
        review=review,
        review_sha256=found.manifest.sha256,
        signed_by=key.public if key else None,
    )
    approved = PlanRecord(**{**plan, "approval": approval})
    record = _record(content, approved)
    files = {FILE: _bytes({"schema": "runbook.approval/1", **_approved(record)})}
    return ArchivedApproval(**vars(write_bundle(store, record, files, key)), plan=approved)


def _record(review: Mapping[str, Any], plan: PlanRecord) -> Record:
    """Return the record of an approval, for the database of its review."""
    record = Record(
        run_id=str(uuid.uuid4()), migration=review["migration"], step=STEP, started_at=now()
    )
    record.database = Database(**review["database"])
    plan.approved = plan.sha256
    record.plan = plan
    record.end(
        Outcome.SUCCEEDED,
        f"Plan {plan.sha256} is approved {plan.approval}.",
        "Nothing was changed. `runbook migrate --require-approval` runs this plan and no other.",
    )
    return record


def _approved(record: Record) -> dict[str, Any]:
    """Return what the approval's file says."""
    content = record.content()
    kept = ("migration", "database", "plan", "operator", "host", "run_id")
    return {name: content[name] for name in kept}


@dataclass(frozen=True, kw_only=True)
class Approved:
    """An approval that counts: it is as it was sealed, signed by a trusted key where such were
    given, and its review is there as it was."""

    plan: str
    """The hash of the plan."""
    approval: Approval


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """An approval that does not count. What it says is nobody's word, and is not kept."""

    why: str
    """In a few words, without a full stop."""


def approvals(
    store: Store, trusted: Collection[str] = (), *, plan: str = "", migration: str = ""
) -> Iterator[Approved | Uncounted]:
    """Yield every approval in an archive, or those of a plan or a migration, the newest first."""

    def is_wanted(content: Mapping[str, Any]) -> bool:
        found = _plan(content)
        return (
            content.get("step") == STEP
            and found is not None
            and found.approval is not None
            and plan in ("", found.sha256)
            and migration in ("", content.get("migration"))
        )

    names = f"-{STEP}-"  # as `bundle_stem` makes them
    for bundle in newest_first(store, is_wanted, trusted=trusted, only=lambda name: names in name):
        yield _counted(store, bundle)


def _counted(store: Store, bundle: Verified | Unsound) -> Approved | Uncounted:
    """Return the approval in a bundle, or why it does not count."""
    if isinstance(bundle, Unsound):
        reason = bundle.faults[0].message.rstrip(".")
        return Uncounted(why=f"{bundle.name} does not count: {reason}")
    plan = _plan(bundle.content)
    assert plan is not None and plan.approval is not None  # it would not have been wanted
    signer = bundle.manifest.signer
    approval = plan.approval.model_copy(update={"bundle": bundle.name, "signed_by": signer})
    if _review_sha256(store, approval.review) != approval.review_sha256:
        why = f"{bundle.name} does not count: its review {approval.review} is not as it was"
        return Uncounted(why=why)
    return Approved(plan=plan.sha256, approval=approval)


def _review_sha256(store: Store, review: str) -> str:
    """Return the hash of a review's manifest; '' where it is not there as it was sealed."""
    for bundle in newest_first(store, lambda content: True, only=lambda name: name == review):
        if isinstance(bundle, Verified):
            return bundle.manifest.sha256
    return ""


def _plan(content: Mapping[str, Any]) -> PlanRecord | None:
    """Return the plan that a manifest speaks of; None where it was altered to hold none."""
    try:
        return PlanRecord.model_validate(content.get("plan"))
    except ValidationError:
        return None


def reviewed_plan(store: Store, sha256: str) -> Mapping[str, Any] | None:
    """Return the plan of that hash as data, from a review in the archive that has it; None where
    none has, or it is not as it was sealed."""
    for bundle in newest_first(store, lambda content: _is_of_plan(content, sha256)):
        if isinstance(bundle, Verified):
            try:
                content: Mapping[str, Any] = json.loads(bundle.file(PLAN))
            except (ArchiveError, ValueError, RecursionError):
                continue
            return content
    return None


def vouching_bundle(
    store: Store, sha256: str, migration: str, server: Server, trusted: Collection[str]
) -> str:
    """Return a bundle whose manifest says that a plan of that hash was reviewed, approved or run
    for a migration of this database; '' where none does that is as it was sealed, and signed by a
    trusted key where there are such."""

    def vouches(content: Mapping[str, Any]) -> bool:
        plan, database = mapping(content.get("plan")), mapping(content.get("database"))
        same = (plan.get("sha256"), content.get("migration")) == (sha256, migration)
        return same and _is_database(database, server)

    return _first_verified(store, vouches, trusted)


def vouching_run(store: Store, entry: LedgerEntry, server: Server, trusted: Collection[str]) -> str:
    """Return the bundle of the run that a row of the ledger is of, where it says the same of plan,
    rows and hashes; '' where none does that is as it was sealed, and signed by a trusted key where
    there are such."""

    def vouches(content: Mapping[str, Any]) -> bool:
        plan, proof, database = (
            mapping(content.get(part)) for part in ("plan", "proof", "database")
        )
        run = content.get("step"), content.get("run_id"), content.get("migration")
        return (
            run == ("migrate", entry.run_id, entry.migration)
            and plan.get("sha256") == entry.plan_sha256
            and _is_proof_of(proof, entry)
            and _is_database(database, server)
        )

    return _first_verified(store, vouches, trusted, lambda name: "-migrate-" in name)


def _first_verified(
    store: Store,
    wanted: Callable[[Mapping[str, Any]], bool],
    trusted: Collection[str],
    only: Only = all_of_them,
) -> str:
    """Return the newest bundle that is wanted and is as it was sealed, or ''. `only` goes by the
    names that `bundle_stem` gives."""
    found = newest_first(store, wanted, trusted=trusted, only=only)
    return next((bundle.name for bundle in found if isinstance(bundle, Verified)), "")


def _is_proof_of(proof: Mapping[str, Any], entry: LedgerEntry) -> bool:
    """Return whether a run's proof is what the ledger says of the rows."""
    of_table = proof.get("covers") == "table"
    return (
        proof.get("passed") is True
        and proof.get("hashes") == entry.hashes
        and proof.get("fingerprint_after") == entry.fingerprint
        and (not of_table or proof.get("rows_after") == entry.rows)
    )


def _is_database(noted: Mapping[str, Any], server: Server) -> bool:
    """Return whether a manifest speaks of the database that answers."""
    if noted.get("name") != server.name:
        return False
    known = noted.get("system_identifier"), server.system_identifier
    return None in known or known[0] == known[1]


def _is_of_plan(content: Mapping[str, Any], sha256: str) -> bool:
    """Return whether a bundle holds the data of a plan."""
    files = {one.get("name") for one in mappings(content.get("files"))}
    return mapping(content.get("plan")).get("sha256") == sha256 and PLAN in files


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
