"""The common part of the notebooks: parameters, connection, record, and how a run ends."""

import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import psycopg

from runbook.catalog import read_catalog, read_server
from runbook.database import ARCHIVING, Target, connect, resolve
from runbook.errors import (
    ChecksFailed,
    Outcome,
    RefusedError,
    RunbookError,
    Stopped,
    UsageError,
)
from runbook.facts import Catalog, LedgerEntry, Unfinished
from runbook.notebook.findings import as_table
from runbook.notebook.publication import publication
from runbook.numbers import size
from runbook.parameters import Parameters
from runbook.record import PROGRESS, Database, Record, Stage, after_commit, now
from runbook.report import html, statements
from runbook.run.online import RESUME, Journal
from runbook.secrets import Scrubber, scrubber_for
from runbook.spec import Spec, load_spec
from runbook.vocabulary import Finding

P = TypeVar("P", bound=Parameters)


class Session(Generic[P]):
    """One notebook's run."""

    step: ClassVar[str]
    parameters_type: ClassVar[type[Parameters]]
    counts_rows: ClassVar[bool] = True
    """Whether reading the catalog counts the rows by the spec's rules."""
    stage: Stage = Stage.CHANGING
    """What the run may have done to the database so far; a notebook that only reads says so."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        """Take the parameters from the notebook's namespace.

        Everything that a parameters cell may define is a parameter, so a misspelt one is found
        here. Raises `UsageError` for an unknown or wrong parameter, a bad URL, an unknown spec.
        """
        self._catalog: Catalog | None = None
        self._progress: Any = None
        self._connection: psycopg.Connection[Any] | None = None
        self._scrubber = _scrubber(namespace)
        self.run_id = uuid.uuid4()
        self.record = Record(
            run_id=str(self.run_id), migration="", step=self.step, started_at=now()
        )
        with self._timed("parameters"):
            given = self.parameters_type.of(_given(namespace))
            self.parameters: P = given  # type: ignore[assignment]
            self.spec: Spec = load_spec(self.parameters.spec)
            self.record.migration = self.spec.name
            self.target: Target = resolve(self.parameters.database_url)
            self.record.parameters = self.parameters.model_dump() | {
                "database_url": self.target.reference
            }

    # -- what every notebook does --------------------------------------------------------------

    def connect(self) -> None:
        """Connect, and show who answers and as whom."""
        with self._timed("connect"):
            server = read_server(self.connection)
            self.record.database = Database.of(server)
            self.show(
                html.facts(
                    {
                        "Migration": f"{self.spec.heading} ({self.spec.name})",
                        "Database": self.target.display,
                        "Server": f"PostgreSQL {server.server_version}",
                        "System identifier": server.system_identifier
                        or "not readable by this role",
                        "Role": server.user + (" (superuser)" if server.is_superuser else ""),
                        "Operator": f"{self.record.operator} on {self.record.host}",
                        "Run": self.record.run_id,
                    }
                )
            )

    def read_catalog(self) -> None:
        """Read the catalog in one snapshot, and show the table."""
        with self._timed("catalog"):
            self._catalog = read_catalog(
                self.connection,
                self.spec,
                ledger_schema=self.parameters.ledger_schema,
                count=self.counts_rows,
                connect=self.open,
                tell=self.tell if self.counts_rows else lambda text, share: None,
            )
            self._progress = None
            self.record.note_catalog(self._catalog)
            self.show(_table_facts(self._catalog))

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection for reading, opened when first asked for, and again if it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = self.open()
        return self._connection

    @property
    def catalog(self) -> Catalog:
        """What `read_catalog` read."""
        if self._catalog is None:
            raise UsageError("The catalog was not read yet.", "Run the cells in their order.")
        return self._catalog

    def entry(self) -> LedgerEntry:
        """Return the recorded run. Raises `RefusedError` if there is none."""
        if self.catalog.applied is None:
            raise RefusedError(
                f"No run of {self.spec.name} is recorded in {self.catalog.ledger_schema}.ledger of "
                f"this database, or its table {self.spec.schema_}.{self.spec.table_after} is gone.",
                "Nothing was changed. Migrate first, or check the database and the ledger schema.",
            )
        return self.catalog.applied

    def open(self) -> psycopg.Connection[Any]:
        """Return a new connection, named after the step."""
        return connect(self.target, application=f"runbook {self.step}")

    # -- showing and ending ---------------------------------------------------------------------

    def show(self, *things: object) -> None:
        """Display things below the cell."""
        from IPython.display import display

        display(*things)

    def tell(self, text: str, share: float | None = None) -> None:
        """Say what runs now, in one line that changes: it may take its time. With a `share` from 0
        to 1 it is a bar."""
        from IPython.display import display

        line = html.line(text) if share is None else html.progress(text, share)
        if self._progress is None:
            self._progress = display(line, display_id=True)
        else:
            self._progress.update(line)

    def note_findings(self, findings: tuple[Finding, ...]) -> None:
        """Note findings and show them."""
        self.record.findings += [
            {key: str(value) for key, value in vars(finding).items()} for finding in findings
        ]
        self.show(as_table(findings))

    def finish(self, outcome: Outcome, message: str, remedy: str = "") -> None:
        """End the run: show how, publish the record, and raise if it did not succeed."""
        self.record.end(outcome, message, remedy)
        self.publish()
        if self._connection is not None:
            self._connection.close()

    def publish(self) -> None:
        """Publish the record as data of the cell, with a banner for the reader."""
        from IPython.display import display

        display(self._scrubber.tree(publication(self.record)), raw=True)
        if ARCHIVING not in os.environ:
            self.show(
                html.line("Run by hand: not archived. `runbook` and papermill archive a bundle.")
            )

    def tell_progress(self) -> None:
        """Tell the engine how far the run is; it keeps the last word of a kernel that is killed."""
        if ARCHIVING in os.environ:
            from IPython.display import display

            told = {"stage": self.stage, "record": self.record.model_dump(mode="json")}
            display({PROGRESS: self._scrubber.tree(told)}, raw=True)

    @contextmanager
    def short_change(self, stage: Stage) -> Iterator[Journal]:
        """Yield a journal for a change in one short transaction; note and show what it did, however
        it ends. `stage` is what is true of the database until it has ended well."""
        journal, before = Journal(), self.record.statements
        self.stage = stage
        self.tell_progress()
        try:
            yield journal
            self.stage = Stage.CHANGED
        finally:
            self.record.note_online(None, journal)
            self.record.statements = before + self.record.statements
            self.show(statements.executed(journal.executed))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Time a step, tell the progress after it, and publish the record if it fails."""
        started = time.monotonic()
        try:
            yield
        except (psycopg.Error, KeyboardInterrupt) as error:
            if isinstance(error, psycopg.Error):
                failure = self.database_failure(error)
            else:
                failure = self.interrupted()
            self._fail(failure)
            raise failure from error
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self.record.timings[name] = round(time.monotonic() - started, 4)
        self.tell_progress()

    def database_failure(self, error: psycopg.Error) -> RunbookError:
        """Return what an error means that the server sent while it was only being read."""
        return RefusedError(
            _said(error), "Nothing was changed. Look at the server, then run again."
        )

    def interrupted(self) -> RunbookError:
        """Return what an interrupt means that no transaction was there to take back for."""
        message = "The run was interrupted."
        if self.stage is Stage.READING:
            return RefusedError(
                message, "Nothing was changed: the run had only read. Run it again."
            )
        if self.stage is Stage.RESUMABLE:
            return Stopped(message, RESUME)
        if self.stage is Stage.CHANGED:
            return ChecksFailed(message, after_commit(self.step))
        return RunbookError(
            message,
            "It was between two transactions: each is either whole or not there at all. "
            "`runbook verify` tells which.",
        )

    def _fail(self, error: BaseException) -> None:
        """Note how it failed, and publish that."""
        if isinstance(error, RunbookError):
            self.record.end(error.outcome, error.message, error.remedy, error.exit_code)
        else:
            self.record.end(
                Outcome.ERROR,
                f"An unexpected error ended the run: {type(error).__name__}.",
                "This is a bug; the traceback is in the report.",
            )
        self.publish()


def _said(error: psycopg.Error) -> str:
    """Return what the server said, in a sentence."""
    if error.sqlstate is None:
        return "The connection to the server was lost."
    return f"The server answered with error {error.sqlstate}: {error.diag.message_primary}."


def _scrubber(namespace: Mapping[str, Any]) -> Scrubber:
    """Return what keeps secrets unwritten: those of a notebook's variables and environment."""
    return scrubber_for([text for text in namespace.values() if isinstance(text, str)])


_SHELLS_OWN = re.compile(r"_+|_(i+|ih|oh|dh|i?\d+|exit_code)|__.*__")
"""Names that IPython and editors put beside the notebook's own."""


def _given(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the parameters cell, and papermill below it, defined."""
    try:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    except ImportError:
        shell = None
    hidden = set(shell.user_ns_hidden) if shell else set()
    return {
        name: item
        for name, item in namespace.items()
        if not _SHELLS_OWN.fullmatch(name)
        and name not in hidden
        and not isinstance(item, ModuleType | type)
        and not isinstance(item, Session)
    }


def _table_facts(catalog: Catalog) -> html.Fragment:
    """Return the table's facts for the reader."""
    table, applied = catalog.table, catalog.applied
    # Where a view stays under the old name, it is not what the migration is about.
    if table is None or (applied and table.oid != applied.table_oid):
        return html.facts(
            {"Applied": f"{applied.applied_at} by {applied.applied_by}, run {applied.run_id}"}
            if applied
            else {"Table": "not there"}
        )
    return html.facts(
        {
            "Table": f"{table.schema}.{table.name} (OID {table.oid}, owner {table.owner})",
            "Rows": catalog.census.total if catalog.census else "not counted",
            "Size": f"{size(table.heap_bytes)} table, {size(table.index_bytes)} indexes",
            "Columns": len(table.columns),
            "Indexes": len(table.indexes),
            "Constraints": len(table.constraints),
            "Triggers on UPDATE": len(table.update_triggers),
        }
    )


def recorded_run(entry: LedgerEntry) -> html.Fragment:
    """Return a ledger entry for the reader."""
    return html.facts(
        {
            "Run": entry.run_id,
            "Applied": f"{entry.applied_at} by {entry.applied_by}, mode {entry.mode}",
            "Table": f"{entry.table_schema}.{entry.table_before} → {entry.table_after} "
            f"(OID {entry.table_oid})",
            "Rows then": entry.rows,
            "Plan": entry.plan_sha256,
        }
    )


def unfinished_run(unfinished: Unfinished) -> html.Fragment:
    """Return an online run that has not ended for the reader."""
    return html.facts(
        {
            "Unfinished run": unfinished.run_id,
            "Begun": f"{unfinished.started_at} by {unfinished.started_by}",
            "At work": unfinished.at_work or "no: it was stopped",
            "Phase": unfinished.phase,
            "Backfill": f"{unfinished.blocks_done:,} of {unfinished.blocks:,} blocks, "
            f"{unfinished.rows:,} rows updated and proved in {unfinished.batches:,} batches",
            "Plan": unfinished.plan_sha256,
        }
    )
