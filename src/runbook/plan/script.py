"""The plan as a script that psql runs to the same end state, ledger row and proof included."""

from collections.abc import Iterator
from itertools import chain

from runbook import __version__, sql
from runbook.facts import Table
from runbook.plan.ledger import create_ledger, record_run
from runbook.plan.model import Plan
from runbook.plan.tally import ALGORITHM
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role, Statement

_HEAD = """\
-- {heading}
-- plan {sha256}
-- made by migration-runbook {version}; run it with: psql -X -v ON_ERROR_STOP=1 -f FILE
-- Everything after BEGIN is one transaction: it is all applied, or nothing is.

\\set ON_ERROR_STOP on
\\encoding UTF8
"""

_COMPARE = """\
DO $proof$
BEGIN
    IF EXISTS (SELECT FROM pg_temp.runbook_after WHERE wrong <> 0)
       OR (SELECT jsonb_agg(to_jsonb(b) - 'wrong' ORDER BY label) FROM pg_temp.runbook_before b)
          IS DISTINCT FROM
          (SELECT jsonb_agg(to_jsonb(a) - 'wrong' ORDER BY label) FROM pg_temp.runbook_after a) THEN
        RAISE EXCEPTION 'the proof failed: rows, values or labels are not as they must be'
            USING HINT = 'Nothing was changed.';
    END IF;
END
$proof$"""

_ROWS = "(SELECT coalesce(sum(rows), 0) FROM pg_temp.runbook_after)"
_CATEGORIES = (
    "(SELECT coalesce(jsonb_object_agg(label, rows) FILTER (WHERE label IS NOT NULL), '{{}}')"
    " FROM pg_temp.runbook_after)"
)
_FINGERPRINT = "(SELECT coalesce(sum(hashes), 0)::text FROM pg_temp.runbook_after)"


def script(spec: Spec, plan: Plan, table: Table, ledger_schema: str) -> str:
    """Return the script. It changes nothing when any statement or the proof fails."""
    head = _HEAD.format(
        heading=" ".join(spec.heading.split()), sha256=plan.sha256, version=__version__
    )
    reasons = [f"-- {' '.join(reason.split())}" for reason in plan.reasons]
    prepare = [_entry(statement) for statement in plan.of_phase(Phase.PREPARE)]
    body = chain.from_iterable(_entries(statement) for statement in plan.of_phase(Phase.ATOMIC))
    ledger = [
        f"-- Make the ledger where it is not there yet\n{create_ledger(ledger_schema)};",
        f"-- Record the run\n{_record(spec, plan, table, ledger_schema)};",
    ]
    return (
        "\n\n".join(
            [
                head + "\n".join(reasons),
                *prepare,
                "BEGIN ISOLATION LEVEL READ COMMITTED;",
                *body,
                *ledger,
                "COMMIT;",
            ]
        )
        + "\n"
    )


def _entries(statement: Statement) -> Iterator[str]:
    """Yield a statement; tallies go into temporary tables, and the second is compared."""
    if statement.role is Role.TALLY_BEFORE:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_before ON COMMIT DROP AS\n")
    elif statement.role is Role.TALLY_AFTER:
        yield _entry(statement, "CREATE TEMPORARY TABLE runbook_after ON COMMIT DROP AS\n")
        yield f"-- Compare both tallies: a difference rolls everything back\n{_COMPARE};"
    else:
        yield _entry(statement)


def _entry(statement: Statement, prefix: str = "") -> str:
    """Return a statement with a comment on what it does, its lock and its undo."""
    # A name may hold a line break, and what follows it must not leave the comment.
    title, undo = (" ".join((text or "").split()) for text in (statement.title, statement.undo))
    notes = [f"-- {title} [{statement.phase}, lock: {statement.lock}]"]
    notes += [f"-- undo: {undo}"] if undo else []
    return "\n".join(notes) + f"\n{prefix}{statement.sql};"


def _record(spec: Spec, plan: Plan, table: Table, ledger_schema: str) -> str:
    """Return the ledger's INSERT, with what only the run knows taken from the tallies."""
    return record_run(
        ledger_schema,
        spec,
        plan,
        table,
        {
            "run_id": sql.compose("gen_random_uuid()"),
            "client": sql.value("psql"),
            "rows": sql.compose(_ROWS),
            "categories": sql.compose(_CATEGORIES),
            "algorithm": sql.value(ALGORITHM),
            "fingerprint": sql.compose(_FINGERPRINT),
        },
    )
