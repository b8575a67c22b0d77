"""Other processes that hold leases, and questions to a server, for the tests beside."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from runbook.embedded import Server

HOLDER = """
import sys
from pathlib import Path
from runbook.embedded import Server
server = Server(Path(sys.argv[1]), settings={"fsync": "off"})
server.acquire()
print((server.directory / "postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.read()
server.release()
"""


class Holder:
    """Another process that takes a lease and keeps it until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def postmaster_pid(self) -> int:
        """Wait until the lease is taken; returns the process id of the server."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Let it give its lease back; returns its exit code."""
        self.process.communicate(timeout=60)
        return self.process.returncode

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self.process.kill()
        self.process.communicate(timeout=60)


def ask(server: Server, query: str) -> object:
    """Return the first value that the server answers."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def run(server: Server, statement: str) -> None:
    """Run a statement that answers nothing."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(statement)


def postmaster_pid(server: Server) -> int:
    """Return the process id of the server that runs."""
    return int((server.directory / "postmaster.pid").read_text().split()[0])


def wait_for(happened: Callable[[], object], seconds: float = 30) -> None:
    """Wait until `happened` answers something true; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def exists(pid: int) -> bool:
    """Tell whether there is a process with this id that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
