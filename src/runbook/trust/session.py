"""The runbook's sessions: none of its SQL ever looks for a name in a schema that others own.

A role's or a database's own `search_path` is whatever its owner made it. So the first statement of
every session empties it, and every transaction of a plan does so again, for whoever runs the plan
by another program.

Behind a pooler the server's session is not the connection's own, and a setting that outlives a
transaction would reach the sessions of others. There every transaction empties the path for itself,
and a statement outside of any becomes one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from runbook.trust.settings import FOR_SESSION, FOR_TRANSACTION

_WHO = b"SELECT pg_catalog.pg_backend_pid()"


class Session(psycopg.Connection[Any]):
    """A connection whose SQL searches no schema but PostgreSQL's own."""

    is_pooled = False
    """Whether a pooler answers with another process than the server's."""

    def close_search_path(self) -> None:
        """Empty the search path, for the session or from transaction to transaction. Nothing that
        is run before may look up a name."""
        row = psycopg.Connection.execute(self, _WHO).fetchone()
        assert row is not None
        self.is_pooled = row[0] != self.info.backend_pid
        if self.is_pooled:
            self.cursor_factory = _PinnedCursor
        else:
            self.execute(FOR_SESSION.encode())

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status is TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost and self.is_pooled:
                self.execute(FOR_TRANSACTION.encode())
            yield transaction


def open_session(conninfo: str, *, application: str, **options: Any) -> Session:
    """Return a session in autocommit mode, named after what it is for, its search path empty.

    Nothing is ever prepared: behind a pooler a prepared statement would reach other people's
    sessions. Raises what psycopg raises where it cannot connect.
    """
    session = Session.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        client_encoding="utf8",
        fallback_application_name=application,
        **options,
    )
    session.close_search_path()
    # Whoever owns the database may have set another default, in which a lock that was waited for
    # lets nothing new be seen.
    session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return session


class _PinnedCursor(psycopg.Cursor[Any]):
    """Behind a pooler: gives a statement outside of any transaction one, with an empty path."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "_PinnedCursor":
        connection = self.connection
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            return super().execute(query, params, **options)
        if connection.autocommit:
            with connection.transaction():
                return super().execute(query, params, **options)
        super().execute(FOR_TRANSACTION.encode())
        return super().execute(query, params, **options)
