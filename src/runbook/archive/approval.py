"""Approvals: a bundle of its own, which says who approved the plan of which review.

It is sealed, chained and signed as every bundle is, so that nothing else has to be verified.
"""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from runbook.archive.bundle import Bundle, write_bundle
from runbook.archive.chain import ordered
from runbook.archive.keys import SigningKey
from runbook.archive.manifest import Manifest
from runbook.archive.store import Store
from runbook.archive.verification import verify_bundle
from runbook.errors import Outcome, RefusedError
from runbook.facts import LedgerEntry, Server
from runbook.record import Approval, Database, PlanRecord, Record, now

STEP = "approve"
FILE = "approval.json"
PLAN = "plan.json"


def approve(store: Store, review: str, *, by: str, note: str, key: SigningKey | None) -> Bundle:
    """Archive the approval of a review's plan; return its bundle.

    Raises `RefusedError` if the bundle is no review that succeeded, or is not as it was sealed;
    `ArchiveError` if the archive cannot be read or written.
    """
    _verify(store, review)
    manifest = store.bundles()[review]
    content = manifest.content
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
        review_sha256=manifest.sha256,
        signed_by=key.public if key else None,
    )
    record = _record(content, PlanRecord(**{**plan, "approval": approval}))
    files = {FILE: _bytes({"schema": "runbook.approval/1", **_approved(record)})}
    return write_bundle(store, record, files, key)


def _verify(store: Store, bundle: str) -> None:
    """Raise `RefusedError` unless a bundle is as it was sealed."""
    faults = verify_bundle(store, bundle).faults
    if faults:
        raise RefusedError(
            f"Bundle {bundle} is not as it was sealed: {faults[0].object}: {faults[0].message}",
            "Nothing was approved. Find out what was done to it, and review again.",
        )


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


def approvals(store: Store) -> Iterator[tuple[str, Approval]]:
    """Yield every approval in an archive, with the hash of its plan, the newest first; whether it
    is as it was sealed is not looked at."""
    found = store.bundles(lambda name: f"-{STEP}-" in name)  # as `bundle_stem` names them
    for name in reversed(ordered(found)):
        if found[name].content.get("step") == STEP:
            plan = _plan(found[name])
            if plan and plan.approval:
                signer = found[name].signer
                yield (
                    plan.sha256,
                    plan.approval.model_copy(update={"bundle": name, "signed_by": signer}),
                )


def _plan(manifest: Manifest) -> PlanRecord | None:
    """Return the plan that a manifest speaks of; None where it was altered to hold none."""
    try:
        return PlanRecord.model_validate(manifest.content.get("plan"))
    except ValidationError:
        return None


def why_not(store: Store, approval: Approval, trusted: Collection[str]) -> str:
    """Return why an approval does not count, in a few words; '' where it does: it is as it was
    sealed, signed by a trusted key where there are such, and its review is there as it was."""
    faults = verify_bundle(store, approval.bundle, trusted=trusted).faults
    if faults:
        return f"{approval.bundle} does not count: {faults[0].message}"
    review = store.bundles(lambda name: name == approval.review).get(approval.review)
    if review is None or review.sha256 != approval.review_sha256:
        return f"{approval.bundle} does not count: its review {approval.review} is not as it was"
    return ""


def reviewed_plan(store: Store, sha256: str) -> Mapping[str, Any] | None:
    """Return the plan of that hash as data, from a review in the archive that has it; None where
    none has, or it is not as it was sealed."""
    found = store.bundles()
    for name in reversed(ordered(found)):
        if _is_of_plan(found[name], sha256) and not verify_bundle(store, name).faults:
            try:
                content: Mapping[str, Any] = json.loads(store.read(name, PLAN))
            except (ValueError, RecursionError):
                continue
            return content
    return None


def vouching_bundle(
    store: Store, sha256: str, migration: str, server: Server, trusted: Collection[str]
) -> str:
    """Return a bundle whose manifest says that a plan of that hash was reviewed, approved or run
    for a migration of this database; '' where none does that is as it was sealed, and signed by a
    trusted key where there are such."""
    found = store.bundles()
    for name in reversed(ordered(found)):
        content = found[name].content
        plan, database = content.get("plan"), content.get("database")
        if not (isinstance(plan, dict) and isinstance(database, dict)):
            continue
        same = (plan.get("sha256"), content.get("migration")) == (sha256, migration)
        if (
            same
            and _is_database(database, server)
            and not verify_bundle(store, name, trusted=trusted).faults
        ):
            return name
    return ""


def vouching_run(store: Store, entry: LedgerEntry, server: Server, trusted: Collection[str]) -> str:
    """Return the bundle of the run that a row of the ledger is of, where it says the same of plan,
    rows and hashes; '' where none does that is as it was sealed, and signed by a trusted key where
    there are such."""
    found = store.bundles(lambda name: "-migrate-" in name)  # as `bundle_stem` names them
    for name in reversed(ordered(found)):
        content = found[name].content
        plan, proof, database = (content.get(part) for part in ("plan", "proof", "database"))
        if not (isinstance(plan, dict) and isinstance(proof, dict) and isinstance(database, dict)):
            continue
        if (
            (content.get("step"), content.get("run_id")) == ("migrate", entry.run_id)
            and (content.get("migration"), plan.get("sha256"))
            == (entry.migration, entry.plan_sha256)
            and _is_proof_of(proof, entry)
            and _is_database(database, server)
            and not verify_bundle(store, name, trusted=trusted).faults
        ):
            return name
    return ""


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


def _is_of_plan(manifest: Manifest, sha256: str) -> bool:
    """Return whether a bundle holds the data of a plan."""
    plan = manifest.content.get("plan") or {}
    files = {one["name"] for one in manifest.content.get("files", [])}
    return plan.get("sha256") == sha256 and PLAN in files


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
