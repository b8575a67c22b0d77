"""What a worker does for one target: an ordinary run of `02_migrate`, with a bundle of its own.

Everything that goes in and out is plain data without secrets; a database URL is a reference, and
is resolved here, in the environment of the worker.
"""

import json
import logging
import time
import zlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg

from runbook.archive.destination import Destination, prepare
from runbook.catalog import read_catalog
from runbook.catalog.ledger import read_applied
from runbook.database import connect, resolve
from runbook.errors import RunbookError
from runbook.fleet.result import Result
from runbook.fleet.targets import Target
from runbook.plan import Options, blockers, build_plan, resumed_plan, review
from runbook.plan.alike import alike
from runbook.plan.model import canonical, sha256_of
from runbook.plan.script import script
from runbook.spec import load_spec, split_reference
from runbook.trust.ledger import require_own_ledger

if TYPE_CHECKING:
    from runbook.engine.archiving import Archived


@dataclass(frozen=True, kw_only=True)
class Task:
    """One target, and how to migrate it."""

    target: Target
    fleet: str
    fleet_id: str
    wave: int
    reports: str
    parameters: dict[str, Any]
    attempts: int = 1


def migrate(task: Task) -> Result:
    """Run the notebook on the target; return what became of it.

    Whatever the run raises is its outcome. Run again, by whoever takes over from a worker that
    died, it finds the target as it was, unfinished or migrated, as any second run does.
    """
    import papermill  # before the engine, which it loads by itself

    from runbook.engine.notebooks import notebook_path

    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    found: list[Archived] = []
    own = {"name": task.fleet, "id": task.fleet_id, "target": task.target.name, "wave": task.wave}
    try:
        papermill.execute_notebook(
            notebook_path("migrate"),
            None,
            parameters={
                **task.parameters,
                "database_url": task.target.database_url,
                "spec": task.target.spec,
                "reports": task.reports,
            },
            engine_name="runbook",
            kernel_name="python3",
            progress_bar=False,
            report=found.append,
            destination=_destination(task.reports),
            in_process=True,
            fleet=own,
        )
    except Exception as error:
        if not found:
            return _not_run(task, error)
    took_ms = (time.monotonic() - started) * 1000
    return _result(found[0], own, took_ms, task.attempts)


@cache
def _destination(reports: str) -> Destination:
    """Return where bundles go; the page that lists them is made by the fleet, once."""
    return prepare(reports, lists=False)


def _result(archived: "Archived", own: dict[str, Any], took_ms: float, attempts: int) -> Result:
    bundle = archived.bundle
    result = Result.of(
        archived.record.content() | {"fleet": own},
        bundle=bundle.name if bundle else "",
        manifest_sha256=bundle.manifest_sha256 if bundle else "",
        took_ms=took_ms,
        attempts=attempts,
    )
    if not archived.problem:
        return result
    return replace(
        result,
        exit_code=archived.exit_code,
        message=f"{result.message} Its report could not be archived: {archived.problem}.",
        remedy=f"It is kept in {archived.spooled}; deliver it with: runbook archive push",
    )


def _not_run(task: Task, error: Exception) -> Result:
    """Return that a run did not come to its first cell."""
    if not isinstance(error, RunbookError):
        said = f"An unexpected error ended the run: {type(error).__name__}."
        error = RunbookError(said, "This is a bug.")
    return Result(
        target=task.target.name,
        wave=task.wave,
        outcome=error.outcome.value,
        exit_code=error.exit_code,
        message=error.message,
        remedy=error.remedy,
        error=type(error).__name__,
        attempts=task.attempts,
    )


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """What a review of one target says, as far as a fleet needs it."""

    target: str
    plan: str = ""
    """The hash of its plan in the spec's own schema; empty where there is none."""
    mode: str = ""
    rows: int = 0
    estimated_lock_ms: float = 0.0
    is_applied: bool = False
    blocker: str = ""
    """Why it cannot be migrated as it is, and what to do."""
    findings: tuple[dict[str, str], ...] = ()
    packed: bytes = field(default=b"", repr=False)
    """The plan as data, and as SQL, compressed."""

    @property
    def content(self) -> dict[str, Any]:
        """The plan as data, as it would be in the spec's own schema, and under `sql` as SQL."""
        found: dict[str, Any] = json.loads(zlib.decompress(self.packed))
        return found


def is_applied(target: Target, ledger_schema: str) -> bool:
    """Return whether the target's own ledger says that it is migrated, and its table is there.

    Raises `RunbookError` where it cannot be asked.
    """
    with connect(resolve(target.database_url), application="runbook fleet") as connection:
        require_own_ledger(connection, ledger_schema)
        return read_applied(connection, ledger_schema, load_spec(target.spec)) is not None


def survey(target: Target, ledger_schema: str, options: Options) -> Surveyed:
    """Read the target's catalog, review it and make its plan. Changes nothing."""
    try:
        return _survey(target, ledger_schema, options)
    except RunbookError as error:
        return Surveyed(target=target.name, blocker=str(error))
    except psycopg.Error as error:
        said = error.diag.message_primary or "the connection was lost"
        return Surveyed(target=target.name, blocker=f"The server answered: {said}.")


def _survey(target: Target, ledger_schema: str, options: Options) -> Surveyed:
    spec, own = load_spec(target.spec), load_spec(split_reference(target.spec)[0])
    with connect(resolve(target.database_url), application="runbook fleet") as connection:
        catalog = read_catalog(
            connection,
            spec,
            ledger_schema=ledger_schema,
            trust_owner_code=options.trust_owner_code,
        )
    rows = catalog.census.total if catalog.census else 0
    if catalog.applied:
        return Surveyed(target=target.name, rows=rows, is_applied=True)
    findings = () if catalog.unfinished else review(spec, catalog, options)
    noted = tuple({key: str(value) for key, value in vars(one).items()} for one in findings)
    forbidding = blockers(findings)
    if forbidding:
        why = f"{forbidding[0].message} {forbidding[0].remedy}"
        return Surveyed(target=target.name, rows=rows, blocker=why, findings=noted)
    plan = (
        resumed_plan(spec, catalog, options.mode)
        if catalog.unfinished
        else build_plan(spec, catalog, options)
    )
    assert catalog.table is not None
    content = alike(plan, own)
    packed = canonical(content | {"sql": script(spec, plan, catalog.table)})
    return Surveyed(
        target=target.name,
        plan=sha256_of(content),
        mode=plan.mode,
        rows=rows,
        estimated_lock_ms=plan.estimated_lock_ms,
        findings=noted,
        packed=zlib.compress(packed.encode()),
    )
