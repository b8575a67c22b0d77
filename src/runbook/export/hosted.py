"""An atomic plan within a transaction that another tool has opened and will commit."""

import re
from collections.abc import Iterable, Iterator

from runbook import sql
from runbook.errors import UsageError
from runbook.facts import Table
from runbook.plan.model import Plan
from runbook.plan.script import Part, back, there
from runbook.spec import Spec
from runbook.sql import PLACEHOLDER
from runbook.trust.settings import pinned
from runbook.vocabulary import Phase


def hosted(spec: Spec, plan: Plan, table: Table, client: str) -> Iterator[Part]:
    """Yield what applies the plan, proof and ledger row included. `client` is what the ledger says
    of who ran it."""
    return _in_its_settings(plan, there(spec, plan, table, client))


def hosted_back(plan: Plan, client: str) -> Iterator[Part]:
    """Yield what takes the applied plan back, proved and recorded."""
    return _in_its_settings(plan, back(plan, client))


def require_one_transaction(plan: Plan, tool: str) -> None:
    """Raise `UsageError` for a plan that one transaction cannot hold."""
    prepared = plan.of_phase(Phase.PREPARE)
    if prepared:
        raise UsageError(
            f"{prepared[0].title}: PostgreSQL can use it only in a later transaction (55P04), and "
            f"{tool} runs a file in one.",
            "Add the label in a migration of its own, then export again; or let the runbook do "
            "both.",
        )


def require_plain(parts: Iterable[Part], tool: str) -> Iterator[Part]:
    """Yield the parts. Raise `UsageError` where one holds what the tool would not take for SQL.

    Names and values never do: they are written by numbers where they must be. What PostgreSQL
    prints, the name of a type or a default, stands as it is.
    """
    for one in parts:
        text = str(one)
        lines = [line for line in text.splitlines() if _DIRECTIVE.match(line)]
        if lines or PLACEHOLDER in text:
            what = f"a line that begins with {lines[0].strip()!r}" if lines else repr(PLACEHOLDER)
            raise UsageError(
                f"{' '.join(one.comments) or one.sql}: the statement holds {what}, from the name "
                f"of a type or from a default, and {tool} takes it for one of its own.",
                "Give the type another name, or the default another form; or let the runbook "
                "migrate.",
            )
        yield one


_DIRECTIVE = re.compile(
    r"\s*(--|//|/\*)\s*(changeset|comment|ignore|include|label|liquibase|logical|precondition"
    r"|property|rollback|valid)",
    re.IGNORECASE,
)
"""How a line begins that Liquibase takes for an instruction (its formatted SQL, 4.28); no comment
of ours does."""


def _in_its_settings(plan: Plan, parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts between what notes the settings that they change, and what puts them back:
    the tool goes on in the same transaction, and looks for its own table by the search path."""
    names = sql.values(
        ["lock_timeout", "statement_timeout", "synchronous_commit"] + [name for name, _ in pinned()]
    )
    yield Part(
        sql=sql.render(_NOTE, names=names),
        comments=("Note the settings of the session that are changed in here",),
    )
    yield from parts
    yield Part(sql=sql.render(_RESTORE, names=names), comments=("Put them back",))


_NOTE = """\
DO $note$
BEGIN
    PERFORM set_config('runbook.was_' || name, current_setting(name), true)
    FROM unnest(ARRAY[{names}]) AS name;
END
$note$"""

_RESTORE = """\
DO $restore$
BEGIN
    PERFORM set_config(name, current_setting('runbook.was_' || name), true)
    FROM unnest(ARRAY[{names}]) AS name;
END
$restore$"""
