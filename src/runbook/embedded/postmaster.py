"""The server's main process: is it there, start it, stop it.

`postgres` is started itself, not by `pg_ctl`, which hands the paths to a shell in double quotes.
Its state is read from `postmaster.pid`, as pg_ctl does.
"""

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runbook.embedded.account import Account
from runbook.errors import EmbeddedError

LOG_FILE = "server.log"

# What PostgreSQL logs while processes of a killed server are not all gone.
_HELD = ("pre-existing shared memory block", 'lock file "')

_POLL_S = 0.01
_START_S = 60.0
_ORPHANS_S = 15.0
_STOP_S = 60.0
_MOST_LOG_BYTES = 10_000_000
_SEEN_LOG_LINES = 5

_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, kw_only=True)
class Postmaster:
    """What `postmaster.pid` says of a server that runs."""

    pid: int
    port: int
    socket_folder: Path
    ready: bool

    @property
    def socket(self) -> Path:
        """The Unix socket it listens on."""
        return self.socket_folder / f".s.PGSQL.{self.port}"


def running(directory: Path) -> Postmaster | None:
    """Return the server that runs in the data directory, None if there is none."""
    found = _read_pid_file(directory)
    return found if found is not None and _is_alive(found.pid, directory) else None


def await_ready(directory: Path) -> Postmaster | None:
    """Wait until the server that runs here takes connections; None if it ended instead.

    Raises EmbeddedError if it does neither in time.
    """
    deadline = time.monotonic() + _START_S
    while (found := running(directory)) is not None and not found.ready:
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The server in {directory} (process {found.pid}) does not take connections.",
                f"See {directory / LOG_FILE}, end the process, and run this again.",
            )
        time.sleep(_POLL_S)
    return found


def start(directory: Path, binaries: Path, account: Account) -> str:
    """Start the server and wait until it takes connections.

    Returns the empty string, or the last lines of its log if it ended instead. What processes
    of a killed server still hold is waited for, for some seconds.
    """
    orphans_deadline = time.monotonic() + _ORPHANS_S
    while True:
        _discard_stale_pid_file(directory)
        lines = _start_once(directory, binaries, account)
        if not lines or await_ready(directory) is not None:
            return ""
        held = any(phrase in lines for phrase in _HELD)
        if not held or time.monotonic() > orphans_deadline:
            return lines
        time.sleep(10 * _POLL_S)


def stop(directory: Path) -> None:
    """Stop the server: sessions are ended and everything is written; nothing if none runs.

    Raises EmbeddedError if it does not end in time.
    """
    found = running(directory)
    if found is None:
        return
    for number, seconds in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, _STOP_S / 6)):
        with suppress(ProcessLookupError):
            os.kill(found.pid, number)
        if _wait_until(lambda: not _is_alive(found.pid, directory), seconds):
            return
    raise EmbeddedError(
        f"The server in {directory} (process {found.pid}) does not stop.",
        "End the process, then run this again.",
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `Account.popen` started, with its children, and wait for its end."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start_once(directory: Path, binaries: Path, account: Account) -> str:
    log = _open_log(directory, account)
    try:
        begin = os.fstat(log).st_size
        process = account.popen([binaries / "postgres", "-D", directory], output=log)
        _children[:] = [child for child in _children if child.poll() is None] + [process]
        try:
            if _await_own(process, directory):
                return ""
        except BaseException:
            kill_group(process)
            raise
        return _last_lines(log, begin) or f"exit code {process.returncode}, no message"
    finally:
        os.close(log)


def _await_own(process: subprocess.Popen[bytes], directory: Path) -> bool:
    """Wait until `process` serves (True) or has ended (False); raises EmbeddedError when late."""

    def serves() -> bool:
        found = _read_pid_file(directory)
        return found is not None and found.pid == process.pid and found.ready

    if not _wait_until(lambda: process.poll() is not None or serves(), _START_S):
        raise EmbeddedError(
            f"The server in {directory} did not start within {_START_S:.0f} s.",
            f"See {directory / LOG_FILE} and run this again.",
        )
    return process.returncode is None


def _wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _read_pid_file(directory: Path) -> Postmaster | None:
    """Read `postmaster.pid`; None if it is not there or not yet written."""
    try:
        lines = (directory / "postmaster.pid").read_bytes().splitlines()
        pid = abs(int(lines[0]))
    except (OSError, ValueError, IndexError):
        return None
    lines += [b""] * 8
    return Postmaster(
        pid=pid,
        port=int(lines[3]) if lines[3].isdigit() else 0,
        socket_folder=Path(os.fsdecode(lines[4])),
        ready=lines[7].strip() == b"ready",
    )


def _is_alive(pid: int, directory: Path) -> bool:
    """Tell whether process `pid` is a PostgreSQL that works in the data directory.

    The number alone says little: after a kill or a reboot it may be anybody's.
    """
    for child in _children:
        child.poll()
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not sys.platform.startswith("linux"):
        found = _read_pid_file(directory)
        return found is not None and found.pid == pid
    return _works_in(Path("/proc") / str(pid), directory)


def _works_in(process: Path, directory: Path) -> bool:
    """Tell whether a /proc entry is a PostgreSQL in the data directory; True if it is hidden."""
    try:
        program = (process / "exe").readlink().name
        return program.startswith("postgres") and (process / "cwd").samefile(directory)
    except PermissionError:
        return True
    except OSError:
        return False


def _discard_stale_pid_file(directory: Path) -> None:
    """Remove `postmaster.pid` if its number now belongs to another program or to a dead child.

    PostgreSQL itself removes it if the number is free. It keeps it as long as a process of the
    same account bears the number, which after the restart of a container is likely.
    """
    found = _read_pid_file(directory)
    if found is None or not sys.platform.startswith("linux") or _is_alive(found.pid, directory):
        return
    processes = (path for path in Path("/proc").iterdir() if path.name.isdigit())
    # The file is also what makes PostgreSQL look for orphans: keep it for them.
    if any(_is_visible_in(process, directory) for process in processes):
        return
    for path in (Path(f"{found.socket}.lock"), directory / "postmaster.pid"):
        path.unlink(missing_ok=True)


def _is_visible_in(process: Path, directory: Path) -> bool:
    return os.access(process / "cwd", os.R_OK) and _works_in(process, directory)


def _open_log(directory: Path, account: Account) -> int:
    """Open the server's log for appending, begun anew once it has grown large."""
    descriptor = account.open(directory / LOG_FILE, os.O_RDWR | os.O_APPEND)
    if os.fstat(descriptor).st_size > _MOST_LOG_BYTES:
        os.ftruncate(descriptor, 0)
    return descriptor


def _last_lines(log: int, begin: int) -> str:
    text = os.pread(log, 100_000, begin).decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-_SEEN_LOG_LINES:])


def _leave_children() -> None:
    """Let go of servers that outlive this process because others use them, without a warning."""
    for child in _children:
        if child.poll() is None:
            child.returncode = 0


atexit.register(_leave_children)
