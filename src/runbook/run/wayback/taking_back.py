"""One applied run on its way back: looked at, counted, undone, compared, in this order."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from runbook.catalog import read_table_named, snapshot
from runbook.catalog.written import written
from runbook.errors import RefusedError
from runbook.facts import Recorded, Table, Written
from runbook.operations.base import blocker
from runbook.plan import Plan
from runbook.run.drift import Differences, differences
from runbook.run.online.journal import Journal
from runbook.run.tally import Tally
from runbook.run.wayback.hand_set import HandSet, read_hand_set
from runbook.run.wayback.obstacles import obstacles, staying
from runbook.run.wayback.proof import Comparison, compare_tallies, tally
from runbook.run.wayback.undo import Undo, Undone
from runbook.trust.holding import holding, require_known
from runbook.trust.settings import for_reading
from runbook.vocabulary import Finding, Role

Connection = psycopg.Connection[Any]

_UNREADABLE = {"table-differs", "row-security", "gone", "owner-code", "ledger-foreign"}
"""Findings that forbid to ask the rows."""


@dataclass
class TakingBack:
    """A recorded run, and what was found on its way back so far."""

    recorded: Recorded
    plan: Plan
    """Its recorded plan, which may be run."""
    rollback_id: uuid.UUID
    discard: bool = False
    """Whether labels that the rules do not give may be lost."""
    lock_budget_ms: int = 1_000
    """How long such labels may be counted anew under the lock."""
    wait_ms: int = 100
    """How long to wait for another run on the table to end."""
    max_wait_ms: int = 300_000
    """How long to try for the lock."""
    trust_owner_code: bool = False
    """Whether code of less privileged roles may run with the connected role's rights."""
    known_code: tuple[str, ...] = ()
    """That code, as it was found when the run was looked for."""
    unproved: str = ""
    """Why what the ledger says of the run is no more than its word, in a few words."""
    hand_set: HandSet | None = None
    before: Tally | None = None
    undone: Undone | None = None
    rows: Comparison | None = None
    catalog: Differences | None = None
    _table: Table | None = None
    _written: Written | None = None

    def examine(self, connection: Connection) -> tuple[Finding, ...]:
        """Return everything that speaks against it at once, as of one moment, the labels that it
        would lose among it, and what it will leave behind."""
        plan = self.plan
        tables = [(plan.schema, plan.table_after)]
        held = holding(connection, tables, ledger_schema=plan.ledger_schema)
        with snapshot(connection, held):
            connection.execute(for_reading().encode())
            self._table = read_table_named(connection, plan.schema, plan.table_after)
            found = obstacles(
                connection,
                self.recorded,
                plan,
                self._table,
                trust_owner_code=self.trust_owner_code,
            )
            if not any(one.code in _UNREADABLE for one in found):
                found += self._look_for_labels(connection)
        return (*found, *staying(self.recorded, plan))

    def _look_for_labels(self, connection: Connection) -> tuple[Finding, ...]:
        """Count the labels that the rules do not give."""
        plan = self.plan
        name = f"{plan.schema}.{plan.table_after}"
        try:
            with connection.transaction():
                require_known(
                    connection,
                    [(plan.schema, plan.table_after)],
                    ledger_schema=plan.ledger_schema,
                    known=self.known_code,
                )
                self.hand_set = read_hand_set(connection, plan)
        except psycopg.errors.QueryCanceled:
            raise
        except (psycopg.errors.ProgrammingError, psycopg.errors.DataError) as error:
            return (
                blocker(
                    "rules-fail",
                    name,
                    "The recorded rules cannot be asked any more: "
                    f"{error.diag.message_primary or error}.",
                    "Undo what changed their columns or labels, then roll back again.",
                ),
            )
        if self.hand_set is None or not self.hand_set.rows:
            return ()
        return (self.hand_set.finding(name, discard=self.discard),)

    def fingerprint(self, connection: Connection, journal: Journal) -> Tally:
        """Count and fingerprint every row, as a reader."""
        self._written = written(connection, self.recorded.entry.table_oid)
        self.before = tally(
            connection, self.plan, Role.TALLY_BEFORE, journal, known_code=self.known_code
        )
        return self.before

    def undo(self, connect: Callable[[], Connection], journal: Journal) -> Undone:
        """Undo everything that the run did, in one short transaction that records it.

        Raises what `Undo.run` raises.
        """
        if self._table is None or self.before is None:
            raise RefusedError("Nothing was looked at yet.", "Run the cells in their order.")
        self.undone = Undo(
            connect=connect,
            recorded=self.recorded,
            plan=self.plan,
            table=self._table,
            rollback_id=self.rollback_id,
            before=self.before,
            discarded=self.hand_set.rows if self.hand_set else 0,
            discard=self.discard,
            lock_budget_ms=self.lock_budget_ms,
            wait_ms=self.wait_ms,
            max_wait_ms=self.max_wait_ms,
            trust_owner_code=self.trust_owner_code,
            journal=journal,
        ).run()
        return self.undone

    def compare(self, connection: Connection, journal: Journal) -> tuple[Tally, Comparison]:
        """Compare rows and catalog with those of before; return the rows as they are now."""
        if self.before is None or self._written is None:
            raise RefusedError("Nothing was counted yet.", "Run the cells in their order.")
        after = tally(connection, self.plan, Role.TALLY_AFTER, journal, known_code=self.known_code)
        self.rows = compare_tallies(
            connection,
            self.recorded.entry,
            self.before,
            after,
            self._written,
            unproved=self.unproved,
        )
        self.catalog = differences(connection, self.plan)
        return after, self.rows
