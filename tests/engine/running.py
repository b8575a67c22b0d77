"""Runs that are under way: started, watched from outside, interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Database
from tests.notebook.papermilling import bundles, environment, manifest, notebook

SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN PERFORM pg_sleep(60); RETURN NEW; END$$",
    "CREATE TRIGGER slow BEFORE UPDATE ON enrichment_logs FOR EACH ROW EXECUTE FUNCTION slow()",
)
"""What makes the migration's UPDATE last, its table locked."""

ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'PgSleep'"
)


def eventually(question: Callable[[], Any], seconds: float = 60) -> Any:
    """Return the first true answer to a question that is asked again and again."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
    return answer


def start(
    command: str, database: Database, folder: Path, source: Path | None = None
) -> subprocess.Popen[str]:
    """Start a migration by the command or by bare papermill."""
    script = str(Path(sys.executable).with_name(command))
    arguments = {
        "runbook": ["migrate", "--database-url", database.url],
        "papermill": [str(source or notebook("migrate")), "out.ipynb", "--no-progress-bar"],
    }[command]
    return subprocess.Popen(
        [script, *arguments],
        cwd=folder,
        env=environment(DATABASE_URL=database.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    """Wait for a run's end; return its exit code and all that it said."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out + err


def kernel_of(process: subprocess.Popen[str]) -> int:
    """Return the process of the kernel that a run started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (kernel,) = (int(pid) for pid in children if b"ipykernel" in command_line(int(pid)))
    return kernel


def command_line(pid: int) -> bytes:
    """Return the command line of a process, as `ps` shows it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def is_alive(pid: int) -> bool:
    """Return whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def the_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the only bundle below a folder."""
    (bundle,) = bundles(folder)
    return manifest(bundle)


SIGNALS = {
    signal.SIGINT: "Ctrl-C (SIGINT)",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
}
