"""The record of a run: what the notebook publishes as data, and the manifest is made from."""

import getpass
import os
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from runbook.errors import Outcome
from runbook.facts import Catalog, Server
from runbook.run import Applied
from runbook.run.online import RESUME, AppliedOnline, Journal

MIME = "application/vnd.runbook.result+json"
"""The type under which a notebook's cell publishes its record."""

PROGRESS = "application/vnd.runbook.progress+json"
"""The type under which it tells the engine how far it is, should it be killed: stage and record."""


class Stage(StrEnum):
    """What a run may have done to the database so far."""

    READING = "reading"
    """Nothing: it only read."""
    CHANGING = "changing"
    """It is at work, or its last transaction's end is unknown."""
    RESUMABLE = "resumable"
    """It is at work online: what it committed stays, and another run goes on there."""
    CHANGED = "changed"
    """All of it is committed and proved."""


_AFTER_COMMIT = {
    "migrate": "The change is committed and proved, but not every check could be asked: run "
    "`runbook verify`.",
    "rollback": "The run is taken back; that the catalog is as before was not compared. "
    "`runbook status` says how it is.",
    "contract": "The view is removed. Run again: it looks first.",
}


def after_commit(step: str) -> str:
    """Return what to say of a run that ended after its last commit, and before its result."""
    return _AFTER_COMMIT.get(step, _AFTER_COMMIT["migrate"])


_RESUME = {
    "fleet": "What is migrated stays, and no target is between: each is as before, migrated, or an "
    "online run to be resumed. Go on with those left: runbook fleet FILE --resume",
}


def how_to_resume(step: str) -> str:
    """Return what to say of a run that stopped midway, and can go on."""
    return _RESUME.get(step, RESUME)


def _operator() -> str:
    """Return who runs this: RUNBOOK_OPERATOR, else the account's name."""
    try:
        return os.environ.get("RUNBOOK_OPERATOR") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _versions() -> dict[str, str]:
    """Return the versions of what took part."""
    packages = ("migration-runbook", "papermill", "psycopg", "sqlalchemy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


class Database(BaseModel):
    """Where the run was; nothing secret."""

    server_version: str
    name: str
    user: str
    host: str
    port: int | None
    system_identifier: str | None
    is_superuser: bool

    @classmethod
    def of(cls, server: Server) -> Self:
        """Return what the manifest says of a server."""
        return cls(**{name: getattr(server, name) for name in cls.model_fields})


class Approval(BaseModel):
    """Who approved a plan: what the archive holds of it."""

    by: str
    at: str
    note: str
    review: str
    """The bundle that was approved."""
    review_sha256: str
    """The SHA-256 of its manifest."""
    bundle: str = ""
    """The bundle of the approval itself, once it is archived."""
    signed_by: str | None = None
    """The public key that signed it; None where it is not signed."""

    def __str__(self) -> str:
        signed = f"signed by {self.signed_by}" if self.signed_by else "not signed"
        said = f": {self.note}" if self.note else ""
        return f"by {self.by}, {self.at}, {signed}{said}"


class PlanRecord(BaseModel):
    """The plan that was made, and the hash that was approved, if any."""

    sha256: str
    mode: str
    approved: str | None
    alike_sha256: str | None = None
    """Of a plan for another schema than the spec's own: its hash as it would be there."""
    approval: Approval | None = None
    """The approval of this plan in the archive, if there is one."""
    estimated_ms: float | None = None
    """How long all of it was likely to take."""
    estimated_lock_ms: float | None = None
    """How long the table's lock was likely to be held."""

    @property
    def is_approved(self) -> bool:
        """Whether the plan that was approved is this one."""
        return self.approved is not None and self.approved in (self.sha256, self.alike_sha256)

    @property
    def approval_said(self) -> str:
        """Say in words which plan was approved, and by whom."""
        if self.is_approved:
            return f"this plan, {self.approval}" if self.approval else "this plan"
        return f"another plan ({self.approved[:12]}…)" if self.approved else "no plan was named"


class Count(BaseModel):
    """Rows before the change."""

    total: int


class CountAfter(Count):
    """Rows after the change."""

    categories: dict[str, int]


class Counts(BaseModel):
    """Rows before, as predicted by the rules, and after."""

    before: Count | None = None
    predicted: dict[str, int] | None = None
    after: CountAfter | None = None


class Record(BaseModel):
    """One run, as far as it came. Fields are filled while it goes."""

    model_config = ConfigDict(validate_assignment=True)

    run_id: str
    migration: str
    step: str
    outcome: Outcome = Outcome.ERROR
    exit_code: int = 1
    message: str = ""
    """How it ended, in a sentence."""
    remedy: str = ""
    """What to do next, in a sentence."""
    error: str = ""
    """The name of the error that ended it, one of `runbook.errors`."""
    started_at: str
    finished_at: str | None = None
    operator: str = Field(default_factory=_operator)
    host: str = Field(default_factory=socket.gethostname)
    versions: dict[str, str] = Field(default_factory=_versions)
    database: Database | None = None
    parameters: dict[str, Any] = {}
    plan: PlanRecord | None = None
    statements: list[dict[str, Any]] = []
    counts: Counts = Counts()
    proof: dict[str, Any] | None = None
    checks: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    locked_ms: float | None = None
    """The longest that a lock could block the application."""
    online: dict[str, Any] | None = None
    """Of an online run: phases, tries for locks, batches over time, pauses, and who was blocked."""
    rehearsal: dict[str, Any] | None = None
    """Of a rehearsal: the copy, its legs with their times, and the estimates for all rows."""
    fleet: dict[str, Any] | None = None
    """Of a fleet: its waves and what became of each target; of a target's run: which fleet, target
    and wave it is."""
    timings: dict[str, float] = {}
    plan_sql: str = ""
    """The plan as a script; it goes into the bundle as plan.sql."""
    plan_json: str = ""
    """The plan as data, of a review: what a later plan is compared with (plan.json)."""

    @property
    def reached_any(self) -> bool:
        """Whether a database was reached."""
        return self.database is not None or self.fleet is not None

    @property
    def blocked_ms(self) -> float:
        """The longest that the application may have waited for a run: for the table, even if nobody
        came meanwhile, or as it was seen behind a batch or an index build."""
        seen = self.online["longest_block_ms"] if self.online else 0.0
        return max(self.locked_ms or 0.0, float(seen))

    def content(self) -> dict[str, Any]:
        """Return it as plain data, without what goes into files of its own."""
        return self.model_dump(mode="json", exclude={"plan_sql", "plan_json"})

    def end(
        self, outcome: Outcome, message: str, remedy: str = "", exit_code: int | None = None
    ) -> None:
        """Note how the run ended."""
        self.outcome, self.message, self.remedy = outcome, message, remedy
        self.exit_code = outcome.exit_code if exit_code is None else exit_code
        self.finished_at = now()

    def note_catalog(self, catalog: Catalog) -> None:
        """Note the database and the rows that were there."""
        self.database = Database.of(catalog.server)
        if catalog.census:
            self.counts = Counts(
                before=Count(total=catalog.census.total), predicted=dict(catalog.census.predicted)
            )

    def note_applied(self, applied: Applied) -> None:
        """Note what was done; counts are now those under the lock."""
        labels = self.counts.predicted or {}
        self.counts = Counts(
            before=Count(total=applied.before.rows),
            predicted={label: applied.before.categories.get(label, 0) for label in labels},
            after=CountAfter(
                total=applied.after.rows, categories=_all(labels, applied.after.categories)
            ),
        )
        self.proof = applied.proof.content()
        self.locked_ms = applied.locked_ms

    def note_online(self, applied: AppliedOnline | None, journal: Journal) -> None:
        """Note what an online run did, or how far it came."""
        self.statements = [vars(one).copy() for one in journal.executed]
        self.online = journal.content()
        if journal.resumed:
            self.run_id = journal.resumed["run_id"]
        self.locked_ms = journal.locked_ms
        if applied:
            self.proof = applied.proof.content()


def _all(labels: Mapping[str, int], counted: Mapping[str, int]) -> dict[str, int]:
    """Return the counts with a 0 for each label that no row has."""
    return {label: counted.get(label, 0) for label in labels}


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
