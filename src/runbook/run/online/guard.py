"""The guard: a session that holds the table's advisory lock as long as an online run is at work.

Its transaction is idle and has no snapshot, so neither VACUUM nor CREATE INDEX CONCURRENTLY waits
for it (docs, 13.2.1: each statement of READ COMMITTED has a snapshot of its own). A statement with
parameters leaves a portal behind that keeps its snapshot, until the next statement takes its place;
so the last one here has none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from runbook.errors import RefusedError
from runbook.facts import Table
from runbook.run.exclusion import exclude_others
from runbook.run.recorded import pid_of


@contextmanager
def guarded(
    connect: Callable[[], psycopg.Connection[Any]], table: Table, *, wait_ms: int
) -> Iterator[int]:
    """Hold the lock; yield the pid of the session that does.

    Raises `RunInProgress` if another run has it for longer than `wait_ms`.
    """
    with connect() as connection:
        if pid_of(connection) != connection.info.backend_pid:
            raise RefusedError(
                "The connection goes through a pooler: the server's session is not the "
                "connection's own.",
                "Nothing was changed by this run. Connect to the server directly for the online "
                "mode: it needs sessions that last.",
            )
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        exclude_others(connection, table, wait_ms=wait_ms)
        connection.execute("SELECT")
        try:
            yield pid_of(connection)
        finally:
            connection.close()


def unhurried(connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    """Return a new connection whose session no timeout of the role ends: a run waits a lot, and
    has limits of its own."""
    connection = connect()
    connection.execute(_NO_TIMEOUT)
    return connection


_NO_TIMEOUT = """\
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN (
    'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"""
