"""The embedded server: one PostgreSQL in one data directory, up while somebody uses it.

Whoever needs it takes a lease. The first one starts the server (and makes the data directory),
the last one to leave stops it. Leases are file locks, so a process that is killed counts as gone;
a server that outlived its users is taken over by the next one.
"""

import atexit
import os
import re
import socket
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runbook.embedded import datadirectory, postmaster
from runbook.embedded.account import Account, choose_account
from runbook.embedded.connection import set_password, socket_conninfo, tcp_url
from runbook.embedded.locks import Lease, exclusive
from runbook.embedded.postmaster import Postmaster
from runbook.embedded.socketfolder import (
    make_socket_folder,
    remove_socket_folder,
    socket_folder,
)
from runbook.embedded.wheel import DEFAULT_MAJOR, wheel_binaries
from runbook.errors import EmbeddedError, RunbookError, UsageError

_SOCKET_PORT = 5432
_LOCK_TIMEOUT_S = 180.0
_PORT_ATTEMPTS = 5


class Server:
    """One PostgreSQL in one data directory.

    The superuser is `postgres`, trusted on a Unix socket that only the server's account and root
    can reach. Every method is safe from several threads and several processes at once.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
        port: int | None = None,
        checksums: bool = True,
    ) -> None:
        """Name a server; nothing is made or started.

        `binaries` is the folder with PostgreSQL's programs, by default those of the wheel, of
        the version that the data directory has. `settings` are further PostgreSQL settings.
        With a `password` the superuser can also come by TCP on 127.0.0.1, at `port` or at a
        free one; without, `port` only names the socket. Pages have checksums, unless `checksums`
        leaves that to initdb (whose default is yes from PostgreSQL 18 on).
        """
        self.directory = Path(directory).resolve()
        self._binaries = None if binaries is None else Path(binaries).resolve()
        self._settings = dict(settings or {})
        self._password = password
        self._port = port
        self._checksums = checksums
        self._mutex = threading.RLock()
        self._holds = 0
        self._lease: Lease | None = None
        _servers.add(self)

    def __repr__(self) -> str:
        return f"Server({str(self.directory)!r})"

    @property
    def is_running(self) -> bool:
        """Whether the server runs and takes connections."""
        found = postmaster.running(self.directory)
        return found is not None and found.ready

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return libpq's `key=value` words for the superuser on the Unix socket."""
        found = postmaster.running(self.directory)
        if found is not None and found.ready:
            return socket_conninfo(found.socket_folder, found.port, dbname)
        folder = socket_folder(self.directory, self._account())
        return socket_conninfo(folder, self._port or _SOCKET_PORT, dbname)

    def tcp_url(self, dbname: str = "postgres") -> str:
        """Return the URL of the superuser, with the password, on 127.0.0.1.

        Raises EmbeddedError if the server has no password or does not run.
        """
        found = postmaster.running(self.directory)
        if self._password is None or found is None:
            raise EmbeddedError(
                f"The server in {self.directory} does not listen on TCP now.",
                "Give it a password and take a lease first.",
            )
        return tcp_url(self._password, found.port, dbname)

    @contextmanager
    def lease(self) -> Iterator["Server"]:
        """Keep the server up inside a `with` block. Raises what `acquire` raises."""
        self.acquire()
        try:
            yield self
        finally:
            self.release()

    def acquire(self) -> "Server":
        """Take a lease: afterwards the server is up. Each one needs a `release`, or the exit.

        Raises EmbeddedError if the server cannot be installed, started or reached.
        """
        with self._mutex:
            account = self._account()
            self._make_parents(account)
            with self._locked(account) as lock:
                if self._lease is None:
                    self._lease = Lease(self._beside("lease"), account)
                    atexit.register(self._release_at_exit)
                try:
                    self._ensure_up(account, lock)
                except BaseException:
                    if self._holds == 0:
                        self._leave()
                    raise
                self._holds += 1
        return self

    def release(self) -> None:
        """Give a lease back; the last one of all processes stops the server.

        Does nothing without a lease. Raises EmbeddedError if the server does not stop.
        """
        with self._mutex:
            if self._holds == 0:
                return
            self._holds -= 1
            if self._holds == 0:
                try:
                    with self._locked(self._account()):
                        self._leave()
                finally:
                    self._drop_lease()

    def destroy(self) -> None:
        """Stop the server and remove the data directory, with this object's own leases.

        Raises EmbeddedError, and leaves all as it is, while another holds a lease.
        """
        with self._mutex:
            if not self.directory.parent.is_dir():
                return
            account = self._account()
            with self._locked(account):
                lease = self._lease or Lease(self._beside("lease"), account)
                try:
                    if not lease.is_only():
                        raise EmbeddedError(
                            f"The server in {self.directory} is in use by another process.",
                            "End that process, for example a notebook kernel, and try again.",
                        )
                    datadirectory.version(self.directory)
                    postmaster.stop(self.directory)
                    datadirectory.remove(self.directory)
                    datadirectory.remove_partial(self.directory)
                    remove_socket_folder(self.directory, account)
                except BaseException:
                    if lease is not self._lease:
                        lease.close()
                    raise
                self._lease = lease
                self._holds = 0
                self._drop_lease()
                self._beside("lease").unlink(missing_ok=True)
                self._beside("lock").unlink(missing_ok=True)

    def _ensure_up(self, account: Account, lock: int) -> None:
        """Make, start or restart what is needed; under the lock, with a lease."""
        assert self._lease is not None
        datadirectory.remove_partial(self.directory)
        found = postmaster.await_ready(self.directory)
        if found is not None and not self._fits(found):
            if not self._lease.is_only():
                raise EmbeddedError(
                    f"The server in {self.directory} is in use with other settings, "
                    "or its socket was removed.",
                    "End the other process that uses it, then run this again.",
                )
            postmaster.stop(self.directory)
            found = None
        if found is None:
            self._start(account, lock)
        if self._password is not None:
            set_password(self.conninfo(), self._password)

    def _fits(self, found: Postmaster) -> bool:
        """Tell whether a running server is reachable and has the settings this one asks for."""
        if not found.socket.exists() or self._port not in (None, found.port):
            return False
        if not self._settings and self._password is None:
            return True
        written = (self.directory / datadirectory.SETTINGS_FILE).read_bytes()
        return written == self._settings_text(found.socket_folder, found.port)

    def _start(self, account: Account, lock: int) -> None:
        binaries = self._programs()
        major = datadirectory.version(self.directory)
        program_major = account.major_version(binaries)
        if major not in (None, program_major):
            raise EmbeddedError(
                f"The data directory {self.directory} is of PostgreSQL {major}, "
                f"the programs in {binaries} are of {program_major}.",
                f"Use the programs of PostgreSQL {major}, or choose another name.",
            )
        folder = make_socket_folder(self.directory, account)
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            content = self._settings_text(folder, self._choose_port())
            if major is None:
                durable = self._settings.get("fsync") != "off"
                datadirectory.create(
                    self.directory,
                    binaries,
                    account,
                    content=content,
                    lock=lock,
                    durable=durable,
                    checksums=self._checksums,
                )
                major = program_major
            else:
                datadirectory.write_settings(self.directory, content, account)
            lines = postmaster.start(self.directory, binaries, account)
            if not lines:
                return
            port_taken = "could not create any TCP/IP sockets" in lines and self._port is None
            if not port_taken or attempts_left == 0:
                raise EmbeddedError(
                    f"The server in {self.directory} did not start; its log ends with:\n{lines}",
                    "Mend what the log names, then run this again.",
                )

    def _settings_text(self, folder: Path, port: int) -> bytes:
        return datadirectory.settings_text(
            self._settings, socket_folder=folder, port=port, tcp=self._password is not None
        )

    def _choose_port(self) -> int:
        if self._port is not None:
            return self._port
        if self._password is None:
            return _SOCKET_PORT
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def _programs(self) -> Path:
        folder = self._binaries
        if folder is None:
            major = datadirectory.version(self.directory)
            return wheel_binaries(major or DEFAULT_MAJOR)
        if not (folder / "postgres").is_file():
            raise EmbeddedError(
                f"There is no PostgreSQL program postgres in {folder}.",
                "Name the folder bin of a PostgreSQL installation.",
            )
        return folder

    def _account(self) -> Account:
        return choose_account(self.directory, self._programs())

    def _make_parents(self, account: Account) -> None:
        try:
            mode = 0o700 if account.capability else 0o777
            self.directory.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"The folder {self.directory.parent} cannot be made: {error.strerror}.",
                "Choose a folder that you may write.",
            ) from error

    @contextmanager
    def _locked(self, account: Account) -> Iterator[int]:
        with exclusive(self._beside("lock"), account, timeout_s=_LOCK_TIMEOUT_S) as descriptor:
            yield descriptor

    def _beside(self, suffix: str) -> Path:
        return self.directory.with_name(f"{self.directory.name}.{suffix}")

    def _leave(self) -> None:
        """Give the lease up and stop the server if nobody else has one; under the lock."""
        try:
            if self._lease is not None and self._lease.is_only():
                postmaster.stop(self.directory)
        finally:
            self._drop_lease()

    def _drop_lease(self) -> None:
        if self._lease is not None:
            self._lease.close()
            self._lease = None
            atexit.unregister(self._release_at_exit)

    def _release_at_exit(self) -> None:
        self._holds = min(self._holds, 1)
        try:
            self.release()
        except RunbookError as error:
            print(error, file=sys.stderr)

    def _after_fork(self) -> None:
        """Forget the parent's leases: a forked child that needs the server takes its own."""
        self._mutex = threading.RLock()
        self._holds = 0
        if self._lease is not None:
            self._lease.forget()
            self._lease = None


def embedded_server(name: str, root: Path | None = None) -> Server:
    """Return the server that `embedded:NAME` means: in `.runbook/NAME` below `root`.

    `root` is the current folder by default. Raises UsageError for a name that could leave it.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise UsageError(
            f"{name!r} is not a name for an embedded server.",
            "Use 1 to 40 letters, digits, hyphens and underscores.",
        )
    return Server((Path.cwd() if root is None else root) / ".runbook" / name)


def _forget_leases() -> None:
    for server in tuple(_servers):
        server._after_fork()


_servers: weakref.WeakSet[Server] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_leases)
