"""Records of runs, and the manifests that are made of them, without a database."""

from typing import Any

from runbook.errors import Outcome
from runbook.record import Count, CountAfter, Counts, Database, PlanRecord, Record

Manifest = dict[str, Any]

LABELS = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1, "FAILED": 0}
MOMENT = "2026-03-04T05:06:07.890Z"


def record(**changed: Any) -> Record:
    """Return the record of a migration that succeeded, but for what is changed."""
    made = Record(
        run_id="7b0c1a52-3f57-4f0e-9a44-0f7b2b8f6a11",
        migration="llamalog",
        step="migrate",
        outcome=Outcome.SUCCEEDED,
        exit_code=0,
        message="EnrichmentLog → LlamaLog is applied.",
        started_at="2026-03-04T05:06:05.390Z",
        finished_at=MOMENT,
        operator="Ada",
        host="workshop",
        versions={"python": "3.13.1"},
        database=Database(
            server_version="18.4",
            name="shop",
            user="owner",
            host="db.internal",
            port=5433,
            system_identifier="7712059211618559496",
            is_superuser=False,
        ),
        parameters={"mode": "auto", "lock_timeout_ms": 2000},
        plan=PlanRecord(sha256="ab" * 32, mode="atomic", approved="ab" * 32),
        counts=Counts(
            before=Count(total=4052),
            predicted=LABELS,
            after=CountAfter(total=4052, categories=LABELS),
        ),
        proof={
            "algorithm": "a sum of hashes",
            "rows_before": 4052,
            "rows_after": 4052,
            "fingerprint_before": "707584017671796113180",
            "fingerprint_after": "707584017671796113180",
            "passed": True,
            "covers": "table",
            "says": "Every row is as it was.",
            "batches": None,
            "different": [],
        },
        checks=[check("SCHEMA-02"), check("rules")],
        locked_ms=74.4,
        timings={"apply": 0.0932},
    )
    return made.model_copy(update=changed)


def check(name: str, *, passed: bool = True) -> dict[str, Any]:
    """Return a check as it stands in a record."""
    return {
        "id": name,
        "title": f"What {name} asks",
        "sql": "SELECT 1",
        "expected": 1,
        "observed": 1 if passed else 2,
        "passed": passed,
    }


def manifest(**changed: Any) -> Manifest:
    """Return the manifest of such a run."""
    content = record(**changed).model_dump(mode="json")
    content["files"] = [{"name": name} for name in ("plan.sql", "report.html", "report.ipynb")]
    return content
