"""Fleets of a test's own: databases, their file, and the command under way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Cluster, Database
from tests.engine.running import command_line
from tests.notebook.papermilling import bundles, environment, manifest

GATE = (
    "CREATE TABLE gate AS SELECT 1 AS closed",
    "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql VOLATILE AS"
    " $$BEGIN WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP;"
    " RETURN NEW; END$$",
    "CREATE TRIGGER gate BEFORE UPDATE ON enrichment_logs"
    " FOR EACH ROW EXECUTE FUNCTION wait_at_gate()",
)
"""What holds the migration's UPDATE until the gate is opened."""

AT_GATE = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'PgSleep'"
)


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """Databases that are alike, on one server."""

    prefix: str
    databases: tuple[Database, ...]
    folder: Path

    def write(self, more: str = "", *, spec: str = "llamalog") -> Path:
        """Write the fleet's file, with TOML of a test's own in the middle."""
        pattern = self.prefix.replace("_", "\\\\_") + "%"
        path = self.folder / "FLEET.toml"
        path.write_text(
            f'name = "tenants"\nspec = "{spec}"\n\n{more}\n\n[[target]]\nurl = "env:TENANTS_URL"\n'
            f"databases = \"SELECT datname FROM pg_database WHERE datname LIKE '{pattern}'\"\n",
            "utf-8",
        )
        return path

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command."""
        first = self.databases[0]
        return subprocess.Popen(
            [sys.executable, "-m", "runbook", "fleet", "FLEET.toml", *options],
            cwd=self.folder,
            env=environment(
                TENANTS_URL=first.url,
                PYTHONPATH=os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")]),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """Run the command to its end, by one worker unless options say otherwise; return its exit
        code and what it said."""
        process = self.start(*(() if "--workers" in options else ("--workers", "1")), *options)
        try:
            said, _ = process.communicate(timeout=240)
        finally:
            process.kill()
        return process.returncode, said

    def applied(self) -> list[int]:
        """Return how often the ledger of each database has the migration."""
        query = "SELECT count(*) FROM runbook.ledger"
        there = "SELECT count(*) FROM pg_namespace WHERE nspname = 'runbook'"
        return [one.value(query) if one.value(there) else 0 for one in self.databases]

    def fleet_manifest(self) -> dict[str, Any]:
        """Return the manifest of the fleet's newest bundle."""
        found = [one for one in bundles(self.folder) if "-fleet-" in one.name]
        return manifest(found[-1])


def tenants(newest: Cluster, folder: Path, count: int) -> Iterator[Tenants]:
    """Make sample databases that are alike; they are removed afterwards."""
    first = newest.sample()
    prefix = f"{first.name}_"
    made = []
    for n in range(count):
        name = f"{prefix}{n}"
        newest.execute(f"CREATE DATABASE {name} TEMPLATE {newest.template}")
        conninfo = newest.server.conninfo(name)
        made.append(
            Database(name=name, conninfo=conninfo, major=newest.major, binaries=newest.binaries)
        )
    yield Tenants(prefix=prefix, databases=tuple(made), folder=folder)
    for one in (first, *made):
        newest.drop(one)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes of Dask's workers that a fleet's command started."""
    return [
        pid
        for pid in descendants(process.pid)
        if b"spawn_main" in command_line(pid) and b"resource_tracker" not in command_line(pid)
    ]


def kernel_of(process: subprocess.Popen[str]) -> int:
    """Return the process of the notebook's kernel."""
    (kernel,) = (one for one in descendants(process.pid) if b"ipykernel" in command_line(one))
    return kernel


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def kill(*pids: int) -> None:
    """End processes at once."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
