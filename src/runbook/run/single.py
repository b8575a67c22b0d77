"""Sending what a plan says: each of its statements alone.

PostgreSQL's simple protocol takes several statements in one text, and runs them all; its extended
protocol refuses a text that holds more than one (docs, 55.2.3). psycopg uses the simple one
wherever there is neither a value nor a binary answer. So a plan's statement has its answer in
binary form: as the unnamed statement it is parsed, bound and run at once, and nothing is left
prepared for others behind a pooler. What the runbook writes itself may be several statements in one
text: it rests on no plan.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg


def execute_single(
    connection: psycopg.Connection[Any], text: str, values: Sequence[object] = ()
) -> psycopg.Cursor[Any]:
    """Execute one statement of a plan, with values for its `$1`, `$2` …

    Raises `SyntaxError` of psycopg where the text holds more than one statement; none is run then.
    """
    if not values:
        return connection.execute(text.encode(), binary=True)
    # Its SQL is full of % signs, which mean nothing to a raw cursor.
    cursor = psycopg.RawCursor(connection)
    return cursor.execute(text.encode(), values, binary=True)


def require_single(connection: psycopg.Connection[Any], texts: Iterable[str]) -> None:
    """Raise where one of some settings is more than one statement: what is sent in one text later,
    batch by batch, is looked at once. They are set for a transaction that is rolled back."""
    with connection.transaction(force_rollback=True):
        for text in texts:
            execute_single(connection, text)
