"""A server of a module's own, for tests that kill it or reach it in a way of their own."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from runbook.embedded import Server, wheel_binaries
from runbook.sample import load_sample
from tests.conftest import MAJORS, Database

NEWEST = MAJORS[-1]


@contextmanager
def server_with_sample(password: str | None = None, **settings: str) -> Iterator[Server]:
    """Start a server, on TCP where there is a password; its database `template` is the sample."""
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        # The server's own account must be able to reach its data.
        Path(folder).chmod(0o755)
        path = Path(folder) / "own"
        server = Server(path, password=password, settings={"fsync": "off"} | settings).acquire()
        try:
            with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
                connection.execute("CREATE DATABASE template")
            with psycopg.connect(server.conninfo("template")) as connection:
                load_sample(connection)
            yield server
        finally:
            server.destroy()


@contextmanager
def own_database(**settings: str) -> Iterator[Database]:
    """Start a server with settings of its own; yield its database with the sample."""
    with server_with_sample(**settings) as server:
        conninfo = server.conninfo("template")
        yield Database(
            name="template", conninfo=conninfo, major=NEWEST, binaries=wheel_binaries(NEWEST)
        )


@contextmanager
def replica(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """Start a streaming replica of a database's server; yield a connection to it."""
    primary = Path(database.value("SELECT current_setting('data_directory')"))
    folder = primary.with_name("standby")
    owner = primary.stat().st_uid
    folder.mkdir(mode=0o700)
    os.chown(folder, owner, -1)
    subprocess.run(
        [
            *(str(database.binaries / "pg_basebackup"), "--write-recovery-conf"),
            *("--checkpoint=fast", f"--pgdata={folder}", f"--dbname={database.conninfo}"),
        ],
        check=True,
        user=owner if os.geteuid() == 0 else None,
    )
    for copied in folder.glob(".s.PGSQL.*"):
        copied.unlink()  # the primary's socket lies in its data directory
    standby = Server(folder, binaries=database.binaries, settings={"fsync": "off"}).acquire()
    try:
        with psycopg.connect(standby.conninfo(database.name), autocommit=True) as connection:
            yield connection
    finally:
        standby.destroy()
