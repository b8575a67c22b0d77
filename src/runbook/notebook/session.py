"""The common part of the notebooks of one database: its target, connection and catalog."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import psycopg

from runbook.catalog import read_catalog, read_server
from runbook.database import Target, connect, resolve
from runbook.errors import BlockedError, RefusedError, UsageError
from runbook.facts import Act, Catalog, LedgerEntry, Unfinished
from runbook.notebook.base import Notebook
from runbook.notebook.findings import as_table
from runbook.notebook.recorded import why_unproved
from runbook.numbers import size
from runbook.parameters import TargetParameters
from runbook.plan.applied import unproved
from runbook.record import Database, Stage
from runbook.report import html, statements
from runbook.run.online import Journal
from runbook.spec import Spec, load_spec
from runbook.trust.ledger import REMEDY, may_write
from runbook.trust.owner_code import EVERY_ACT, require_trust
from runbook.vocabulary import Finding

P = TypeVar("P", bound=TargetParameters)


class Session(Notebook[P]):
    """One notebook's run on one database."""

    counts_rows: ClassVar[bool] = True
    """Whether reading the catalog counts the rows by the spec's rules."""
    acts: ClassVar[frozenset[Act]] = EVERY_ACT
    """What the notebook does to the table, and so has code on it run."""
    unproved: str = ""
    """Why the applied run, if there is one, is no more than the ledger's word, in a few words."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        """Take the parameters from the notebook's namespace.

        Raises `UsageError` for an unknown or wrong parameter, a bad URL, an unknown spec.
        """
        self._catalog: Catalog | None = None
        self._connection: psycopg.Connection[Any] | None = None
        super().__init__(namespace)

    def prepare(self) -> None:
        self.spec: Spec = load_spec(self.parameters.spec)
        self.record.migration = self.spec.name
        self.target: Target = resolve(self.parameters.database_url, self._host.environment)

    def shown_parameters(self) -> dict[str, Any]:
        return super().shown_parameters() | {"database_url": self.target.reference}

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
                trust_owner_code=self.parameters.trust_owner_code,
                connect=self.open,
                tell=self.tell if self.counts_rows else lambda text, share: None,
            )
            self._progress = None
            self.record.note_catalog(self._catalog)
            self.show(_table_facts(self._catalog))
        with self._timed("trust"):
            self.require_trust()

    def require_trust(self, acts: frozenset[Act] | None = None) -> None:
        """Raise `BlockedError` where the ledger is somebody else's, or the notebook would have code
        of less privileged roles run that is not trusted; note what is. It goes by what the notebook
        does, or by `acts` where it has less to do."""
        if self.catalog.ledger_problem:
            raise BlockedError(self.catalog.ledger_problem, f"Nothing was changed. {REMEDY}")
        found = require_trust(
            self.catalog.owner_code,
            self.catalog.server.user,
            acts=acts or self.acts,
            trusted=self.parameters.trust_owner_code,
        )
        if found:
            self.note_findings(found)

    @property
    def named_keys(self) -> str:
        """The public keys of which one must have signed what vouches for a run, by commas; '' for
        the run's own, if it signs."""
        return ""

    def note_unproved(self, entry: LedgerEntry) -> None:
        """Say of an applied run that it is no more than the ledger's word, where that is so."""
        self.unproved = why_unproved(self, entry)
        if self.unproved:
            what = f"that run {entry.run_id} applied this migration at {entry.applied_at}"
            self.note_findings((unproved(self.catalog.ledger_schema, what, self.unproved),))

    def note_unfinished(self, run: Unfinished) -> None:
        """Say of an unfinished run that how far it came is no more than the ledger's word, where
        that is so."""
        writers = self.catalog.ledger_writers
        if writers:
            what = f"how far run {run.run_id} came"
            finding = unproved(self.catalog.ledger_schema, what, may_write(writers))
            self.note_findings((finding,))

    @property
    def known_code(self) -> tuple[str, ...]:
        """Code of less privileged roles that is trusted."""
        trusted = self.parameters.trust_owner_code
        return tuple(map(str, self.catalog.owner_code)) if trusted else ()

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

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def note_findings(self, findings: tuple[Finding, ...]) -> None:
        """Note findings and show them."""
        self.record.findings += [
            {key: str(value) for key, value in vars(finding).items()} for finding in findings
        ]
        self.show(as_table(findings))

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


RESTORED = ", another one than then: the database was restored from a dump since"


def recorded_run(entry: LedgerEntry) -> html.Fragment:
    """Return a ledger entry for the reader."""
    return html.facts(
        {
            "Run": entry.run_id,
            "Applied": f"{entry.applied_at} by {entry.applied_by}, mode {entry.mode}",
            "Table": f"{entry.table_schema}.{entry.table_before} → {entry.table_after} "
            f"(OID {entry.table_oid}{RESTORED if entry.is_restored else ''})",
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
            "Table": f"{unfinished.table_schema}.{unfinished.table_before} (OID "
            f"{unfinished.table_oid}{RESTORED if unfinished.is_restored else ''})",
            "Backfill": f"{unfinished.blocks_done:,} of {unfinished.blocks:,} blocks, "
            f"{unfinished.rows:,} rows updated and proved in {unfinished.batches:,} batches",
            "Plan": unfinished.plan_sha256,
        }
    )
