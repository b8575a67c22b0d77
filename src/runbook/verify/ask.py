"""Asking the database a question whose answer may be an error."""

from typing import Any, Self

import psycopg


class Failure(str):
    """What the server said instead of an answer; equal to nothing that is expected."""

    sqlstate: str | None = None

    @classmethod
    def of(cls, error: psycopg.Error) -> Self:
        """Return a server's error."""
        failure = cls(f"error {error.sqlstate}: {error.diag.message_primary}")
        failure.sqlstate = error.sqlstate
        return failure


def ask(connection: psycopg.Connection[Any], text: str) -> list[tuple[Any, ...]] | Failure:
    """Return the rows of a query, or the server's error in words."""
    try:
        with connection.transaction():
            return connection.execute(text.encode()).fetchall()
    except (psycopg.errors.QueryCanceled, psycopg.OperationalError):
        raise  # no answer is not a wrong answer
    except psycopg.Error as error:
        return Failure.of(error)
