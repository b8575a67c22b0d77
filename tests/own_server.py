"""A server of a module's own, for tests that kill it or reach it in a way of their own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from runbook.embedded import Server
from runbook.sample import load_sample


@contextmanager
def server_with_sample(password: str | None = None) -> Iterator[Server]:
    """Start a server, on TCP where there is a password; its database `template` is the sample."""
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        # The server's own account must be able to reach its data.
        Path(folder).chmod(0o755)
        path = Path(folder) / "own"
        server = Server(path, password=password, settings={"fsync": "off"}).acquire()
        try:
            with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
                connection.execute("CREATE DATABASE template")
            with psycopg.connect(server.conninfo("template")) as connection:
                load_sample(connection)
            yield server
        finally:
            server.destroy()
