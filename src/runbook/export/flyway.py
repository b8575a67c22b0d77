"""The plan as a versioned migration of Flyway, which runs a file in one transaction."""

from runbook import __version__
from runbook.export.hosted import hosted, require_one_transaction, require_plain
from runbook.facts import Table
from runbook.plan.model import Plan
from runbook.plan.script import in_a_line
from runbook.spec import Spec

_HEAD = """\
-- {heading}
-- plan {sha256}
-- made by migration-runbook {version} for Flyway; save it as V<version>__{name}.sql
-- Flyway runs it in one transaction: it is all applied, or nothing is. `runbook verify` and
-- `runbook rollback` know it afterwards; a rollback leaves the row in flyway_schema_history."""


def flyway(spec: Spec, plan: Plan, table: Table) -> str:
    """Return the file. Raises `UsageError` for a plan that one transaction cannot hold, and for one
    with what Flyway would take for a placeholder."""
    require_one_transaction(plan, "Flyway")
    parts = map(str, require_plain(hosted(spec, plan, table, "flyway"), "Flyway"))
    head = _HEAD.format(
        heading=in_a_line(spec.heading),
        sha256=plan.sha256,
        version=__version__,
        name=spec.name.replace("-", "_"),
    )
    return "\n\n".join([head, *parts]) + "\n"
