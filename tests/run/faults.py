"""Faults at a chosen statement of a run: killed, refused by the server, or cut off from it."""

import threading
from collections.abc import Callable
from typing import Any, Literal

import psycopg
from psycopg.pq import TransactionStatus

from tests.conftest import Database

Way = Literal["killed", "refused", "lost"]
WAYS: tuple[Way, ...] = ("killed", "refused", "lost")


class Killed(BaseException):
    """The process is gone; nothing of it runs any more."""


class Fault:
    """Strikes before a statement, counted over all connections and threads."""

    def __init__(self, at: int, way: Way = "killed") -> None:
        self.at, self.way, self.count = at, way, 0
        self.connections: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()

    def step(self, connection: "Mortal", do: Callable[[], Any]) -> Any:
        """Do something on a connection, unless it is struck first."""
        with self._lock:
            self.count += 1
            is_struck = self.count == self.at
            if self.way == "killed" and self.count >= self.at:
                raise Killed
        if is_struck and self.way == "refused" and connection.asks:
            return psycopg.Connection.execute(connection, "SELECT 1 / 0")
        if is_struck:
            with psycopg.connect(connection.info.dsn, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid]
                )
        return do()

    def connect(self, database: Database) -> psycopg.Connection[Any]:
        """Return a connection that is struck."""
        if self.way == "killed" and self.count >= self.at:
            raise Killed
        made = Mortal.connect(database.conninfo, autocommit=True, application_name="mortal")
        made.fault = self
        self.connections.append(made)
        return made

    def bury(self, database: Database) -> None:
        """Close what a killed process leaves open, and wait until the server has noticed."""
        for connection in self.connections:
            connection.close()
        while database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mortal'"
            f" AND datname = '{database.name}'"
        ):
            pass


class Mortal(psycopg.Connection[Any]):
    """A connection whose every statement may be its last."""

    fault: Fault
    asks = True
    """Whether the server is asked: without a transaction it is not, where that is ended."""

    def execute(self, *arguments: Any, **more: Any) -> Any:
        return self.fault.step(self, lambda: super(Mortal, self).execute(*arguments, **more))

    def commit(self) -> None:
        self._end(super().commit)

    def rollback(self) -> None:
        self._end(super().rollback)

    def _end(self, do: Callable[[], None]) -> None:
        self.asks = self.info.transaction_status is not TransactionStatus.IDLE
        try:
            self.fault.step(self, do)
        finally:
            self.asks = True
