"""A real PgBouncer in front of a test's server."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import Database

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

CONFIGURATION = """\
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
unix_socket_mode = 0777
listen_port = 6432
auth_type = any
pool_mode = {mode}
server_round_robin = {round_robin}
ignore_startup_parameters = extra_float_digits,options
"""


@contextmanager
def pooled(database: Database, mode: str, *, round_robin: bool = False) -> Iterator[Database]:
    """Start PgBouncer in a pool mode; yield the database as it is reached through it."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not here")
    server = conninfo_to_dict(database.conninfo)
    owner = Path(database.value("SELECT current_setting('data_directory')")).stat()
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as path:
        folder = Path(path)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(**server, folder=folder, mode=mode, round_robin=int(round_robin))
        )
        os.chown(folder, owner.st_uid, owner.st_gid)
        folder.chmod(0o755)
        # It refuses to run as root, and the server lets its own account in.
        user = owner.st_uid if os.geteuid() == 0 else None
        process = subprocess.Popen(
            [PGBOUNCER, "-q", str(configuration)], user=user, stderr=subprocess.DEVNULL
        )
        conninfo = make_conninfo(database.conninfo, host=path, port=6432)
        try:
            _wait(conninfo)
            yield Database(
                name=database.name,
                conninfo=conninfo,
                major=database.major,
                binaries=database.binaries,
            )
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(conninfo: str) -> None:
    """Return once the pooler answers."""
    until = time.monotonic() + 30
    while True:
        try:
            with psycopg.connect(conninfo):
                return
        except psycopg.OperationalError:
            assert time.monotonic() < until
