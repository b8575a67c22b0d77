"""06_contract: remove the view under the old name, once nobody uses it any more."""

from runbook.catalog.ledger import read_recorded
from runbook.catalog.reader import read_table_named
from runbook.errors import BlockedError, Outcome, RefusedError
from runbook.facts import Act
from runbook.notebook.recorded import vouched
from runbook.notebook.session import Session, recorded_run
from runbook.parameters import ContractParameters
from runbook.plan import believed_plan
from runbook.record import Stage
from runbook.report import html
from runbook.run.online import contract, drops_view, left_to_drop
from runbook.run.usage import uses
from runbook.vocabulary import Phase, Statement


class Contraction(Session[ContractParameters]):
    """Removes the view that an applied run left under the old name."""

    step = "contract"
    acts = frozenset({Act.DEFINE})
    counts_rows = False  # nothing rests on them
    stage = Stage.READING
    parameters_type = ContractParameters

    def __init__(self, namespace: dict[str, object]) -> None:
        super().__init__(namespace)
        self._statements: tuple[Statement, ...] = ()

    @property
    def named_keys(self) -> str:
        return self.parameters.trusted_keys

    def find(self) -> None:
        """Show the run that left the view. Raises `RefusedError` if none did."""
        with self._timed("find"):
            entry = self.entry()
            recorded = read_recorded(self.connection, self.parameters.ledger_schema, self.spec)
            assert recorded is not None and recorded.entry.run_id == entry.run_id
            plan = believed_plan(
                recorded.plan,
                entry.plan_sha256,
                self.spec,
                run=f"run {entry.run_id}",
                vouched=vouched(self),
            )
            left = plan.of_phase(Phase.CONTRACT)
            if not left:
                raise RefusedError(
                    f"Run {entry.run_id} left no view under the old name.", "Nothing was changed."
                )
            self._statements = left_to_drop(self.connection, left)
            self.note_unproved(entry)
            self.show(recorded_run(entry))

    def look_for_uses(self) -> None:
        """Show who still uses the view. Raises `BlockedError` if anybody does."""
        with self._timed("uses"):
            if not any(map(drops_view, self._statements)):
                self.show(html.line("The view is gone already."))
                return
            entry = self.entry()
            found = uses(
                self.connection,
                entry.table_schema,
                entry.table_before,
                watch_s=self.parameters.watch_s,
            )
            name = f"{entry.table_schema}.{entry.table_before}"
            self.show(html.table([f"signs that {name} is in use"], [(one,) for one in found]))
            if found and not self.parameters.force:
                more = f" ({len(found) - 1:,} more signs)" if len(found) > 1 else ""
                raise BlockedError(
                    f"The view {name} is still in use: {found[0]}{more}.",
                    "Nothing was changed. Move what uses it to the new name, or give --force.",
                )

    def contract(self) -> None:
        """Remove the view and the triggers in one short transaction."""
        with self._timed("contract"):
            if not self._statements:
                return
            entry = self.entry()
            table = read_table_named(self.connection, entry.table_schema, entry.table_after)
            assert table is not None
            with self.short_change(Stage.CHANGING) as journal:
                contract(
                    self.open,
                    table,
                    self._statements,
                    wait_ms=self.parameters.lock_timeout_ms,
                    max_wait_ms=self.parameters.max_wait_ms,
                    ledger_schema=self.parameters.ledger_schema,
                    trust_owner_code=self.parameters.trust_owner_code,
                    journal=journal,
                )

    def conclude(self) -> None:
        """Publish the result."""
        with self._timed("conclude"):
            entry = self.entry()
            name = f"{entry.table_schema}.{entry.table_before}"
            if not self._statements:
                self.finish(
                    Outcome.ALREADY_APPLIED,
                    f"The view {name} and what served it were removed before.",
                )
            elif left_to_drop(self.connection, self._statements):
                raise RefusedError(f"The view {name} is still there.", "Run the cells in order.")
            elif any(map(drops_view, self._statements)):
                self.finish(
                    Outcome.SUCCEEDED,
                    f"The view {name} is removed, and with it the triggers that served it.",
                )
            else:
                self.finish(
                    Outcome.SUCCEEDED,
                    f"What served the view {name} is removed; the view itself was gone already.",
                )
