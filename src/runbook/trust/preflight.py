"""Everything that must be trusted of a database before something is done with its table."""

from collections.abc import Sequence
from typing import Any

import psycopg

from runbook.facts import Act
from runbook.trust.ledger import require_own_ledger
from runbook.trust.owner_code import read_owner_code, require_trust
from runbook.vocabulary import Finding


def require_trusted(
    connection: psycopg.Connection[Any],
    tables: Sequence[tuple[str, str]],
    *,
    acts: frozenset[Act],
    ledger_schema: str = "",
    trusted: bool,
) -> tuple[Finding, ...]:
    """Return what is to be said of code that is trusted. Raises `BlockedError` where the ledger is
    somebody else's (where one is named), or what is to be done would run code that is not."""
    if ledger_schema:
        require_own_ledger(connection, ledger_schema)
    code = read_owner_code(connection, tables, ledger_schema=ledger_schema)
    if not code:
        return ()
    row = connection.execute("SELECT current_user::text").fetchone()
    assert row is not None
    return require_trust(code, row[0], acts=acts, trusted=trusted)
