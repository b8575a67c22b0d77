"""Runs that are under way: started, watched from outside, interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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


GATE = (
    "CREATE TABLE gate AS SELECT 1 AS closed",
    "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN PERFORM pg_sleep(60) FROM gate; RETURN NEW; END$$",
    "CREATE TRIGGER gate BEFORE UPDATE ON enrichment_logs"
    " FOR EACH ROW EXECUTE FUNCTION wait_at_gate()",
)
"""What makes each update last, as long as there is a row in the table."""

GUARD = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
INDEXING = (
    "SELECT count(*) FROM pg_stat_progress_create_index"
    " WHERE datname = current_database() AND phase LIKE 'waiting%'"
)
PHASE = "SELECT phase FROM runbook.online_run"
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'runbook migrate'"
)


@contextmanager
def held_at(phase: str, database: Database) -> Iterator[Callable[[], Any]]:
    """Keep an online run from leaving a phase, by what an application may do; yield what tells
    whether it is there."""
    with ExitStack() as stack:

        def transaction(*statements: str) -> Any:
            made = stack.enter_context(database.connect(application_name="nightly report"))
            for statement in statements:
                made.execute(statement.encode())
            return made

        read = "SELECT FROM enrichment_logs LIMIT 1"
        if phase == "expand":
            transaction("BEGIN", read)
            yield lambda: database.value(GUARD)
        elif phase == "backfill":
            database.execute(*GATE)
            yield lambda: database.value(ACTIVE)
            database.execute("DELETE FROM gate")
        else:
            snapshot = transaction(
                "BEGIN ISOLATION LEVEL REPEATABLE READ", 'SELECT FROM "User" LIMIT 1'
            )
            if phase == "index":
                yield lambda: database.value(INDEXING)
                return
            reader: list[Any] = []

            def at_cutover() -> bool:
                if not reader and database.value(INDEXING):
                    reader.append(transaction("BEGIN", read))
                    snapshot.execute("ROLLBACK")
                return bool(reader) and database.value(PHASE) == "cutover"

            yield at_cutover


def eventually(question: Callable[[], Any], seconds: float = 60) -> Any:
    """Return the first true answer to a question that is asked again and again."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
    return answer


def start(
    command: str,
    database: Database,
    folder: Path,
    source: Path | None = None,
    mode: str = "auto",
) -> subprocess.Popen[str]:
    """Start a migration by the command or by bare papermill."""
    script = str(Path(sys.executable).with_name(command))
    arguments = {
        "runbook": ["migrate", "--database-url", database.url, "--mode", mode],
        "papermill": [
            *(str(source or notebook("migrate")), "out.ipynb", "--no-progress-bar"),
            *("-p", "mode", mode),
        ],
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
