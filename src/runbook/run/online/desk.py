"""The papers of an online run: its plan, as far as it applies now, and its notes in the ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.catalog import read_table, snapshot
from runbook.catalog.ledger import read_unfinished
from runbook.errors import Stopped
from runbook.facts import Table, Unfinished
from runbook.plan import Plan, batches_of_newer_partitions, progress
from runbook.spec import Spec
from runbook.trust.holding import holding, open_to_others, require_known
from runbook.trust.settings import for_reading
from runbook.vocabulary import Phase, Statement


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What every part of a run looks up and notes, each time in a session of its own."""

    connect: Callable[[], psycopg.Connection[Any]]
    spec: Spec
    plan: Plan
    table: Table
    run_id: str

    @property
    def ledger_schema(self) -> str:
        """Where the notes are."""
        return self.plan.ledger_schema

    def so_far(self, connection: psycopg.Connection[Any]) -> Unfinished:
        """Return how far the ledger says that the run is."""
        found = read_unfinished(connection, self.ledger_schema, self.spec)
        if found is None or found.run_id != self.run_id:
            raise Stopped(
                f"Run {self.run_id} is no longer in the ledger, or its table is gone.", ""
            )
        return found

    def statements(self, phase: Phase) -> tuple[Statement, ...]:
        """Return the statements of a phase: without those for partitions that are gone, and with
        the batches for those that came since."""
        statements = self.plan.of_phase(phase)
        if not any(one.table for one in statements):
            return statements
        table = self.table_now()
        there = (one for one in statements if one.table is None or one.table in table.leaves)
        if phase is not Phase.BACKFILL:
            return tuple(there)
        return (*there, *batches_of_newer_partitions(self.plan, self.spec, table))

    def table_now(self) -> Table:
        """Return the table as it is by now. Raises `Stopped` if it is gone."""
        with self.connect() as connection, connection.transaction():
            table = read_table(connection, self.spec)
        if table is None:
            raise Stopped(f"Table {self.table.schema}.{self.table.name} is gone.", "")
        return table

    def is_open_to_others(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether a less privileged role may add code to the table meanwhile."""
        return bool(open_to_others(connection, self._tables, ledger_schema=self.ledger_schema))

    @contextmanager
    def snapshot(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Open a transaction that only reads the table, and keeps code of others away from it."""
        held = holding(connection, self._tables, ledger_schema=self.ledger_schema)
        with snapshot(connection, held):
            connection.execute(for_reading().encode())
            self._require_known(connection)
            yield

    @property
    def _tables(self) -> list[tuple[str, str]]:
        return [(self.table.schema, self.table.name)]

    def _require_known(self, connection: psycopg.Connection[Any]) -> None:
        require_known(
            connection,
            self._tables,
            ledger_schema=self.ledger_schema,
            known=self.plan.facts.get("owner_code", ()),
        )

    def enter(self, phase: Phase) -> None:
        """Note the phase that comes next."""
        self.execute(progress.enter_phase(self.ledger_schema, self.run_id, phase))

    def execute(self, text: str) -> Any:
        """Execute statements of the ledger in one transaction; return the first row, if any."""
        with self.connect() as connection, connection.transaction():
            cursor = connection.execute(text.encode())
            return cursor.fetchone() if cursor.description else None
