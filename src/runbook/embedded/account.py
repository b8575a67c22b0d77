"""Which account of the operating system the server's programs run as, and how they get there.

PostgreSQL refuses to run as root. Started by root, its programs run as the owner of the data
directory, or of the folder that will hold it, or as `nobody`. No account is added and no existing
folder is opened for that. Where the account cannot reach the programs or the data because a
folder above is closed to it, the programs get one Linux capability that passes closed folders.

That capability also lets the database's superuser read any file, so it is given only where the
account's other processes cannot get at the server: below a folder that is closed to them.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runbook.errors import EmbeddedError

_CAPABILITY_BITS = {"dac_override": 1, "dac_read_search": 2}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account that can run PostgreSQL.

    `switch` is whether this process must change to it; `capability` is what its processes need
    to pass closed folders, empty if nothing.
    """

    uid: int
    gid: int
    name: str
    groups: tuple[int, ...] = ()
    switch: bool = False
    capability: str = ""

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs `arguments` with the capability this account needs.

        Raises EmbeddedError if a capability is needed and setpriv is not installed.
        """
        plain = [str(argument) for argument in arguments]
        if not self.capability:
            return plain
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedError(
                f"Account {self.name} cannot reach the database's files below a closed folder, "
                "and the program setpriv, which would let it, is not installed.",
                "Install util-linux, run this as a user other than root, or move the project "
                "to a folder that everybody may enter.",
            )
        groups = ",".join(str(group) for group in self.groups)
        return [
            setpriv,
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            f"--groups={groups}" if groups else "--clear-groups",
            # access(2), with which PostgreSQL looks at its own programs, heeds the capability
            # of a process other than root only under this bit.
            "--securebits=+no_setuid_fixup",
            f"--inh-caps=+{self.capability}",
            f"--ambient-caps=+{self.capability}",
            "--no-new-privs",
            *plain,
        ]

    def popen(
        self,
        arguments: Sequence[str | Path],
        *,
        output: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program as this account: own session, minimal environment, `/` as folder.

        Standard output and standard error both go to `output`. Raises EmbeddedError if the
        program cannot be run.
        """
        by_popen = self.switch and not self.capability
        try:
            return subprocess.Popen(
                self.command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
                pass_fds=pass_fds,
                user=self.uid if by_popen else None,
                group=self.gid if by_popen else None,
                extra_groups=self.groups if by_popen else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self._cannot_run(arguments[0], str(error)) from error

    def open(self, path: Path, flags: int) -> int:
        """Open a file and return its descriptor; it is made for this account if not there.

        Follows no symbolic link and leaves the owner of a file that exists as it is. Raises
        OSError as os.open does.
        """
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            try:
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                try:
                    return os.open(path, flags)
                except FileNotFoundError:
                    continue
            if self.switch:
                os.fchown(descriptor, self.uid, self.gid)
            return descriptor

    def major_version(self, binaries: Path) -> int:
        """Return the major version of the programs in `binaries`, asked as this account.

        Raises EmbeddedError if the account cannot run them.
        """
        program = binaries / "postgres"
        with self.popen([program, "--version"]) as process:
            text = process.communicate()[0].decode(errors="replace").strip()
        words = text.split()
        if process.returncode != 0 or len(words) < 3:
            raise self._cannot_run(program, text or f"exit code {process.returncode}")
        return int("".join(c if c.isdigit() else " " for c in words[2]).split()[0])

    def _cannot_run(self, program: str | Path, reason: str) -> EmbeddedError:
        return EmbeddedError(
            f"Account {self.name} cannot run {program}: {reason}.",
            "Install PostgreSQL's programs and keep the project where that account may read, "
            "or run this as a user other than root."
            if self.switch
            else "Install the package anew, or name another folder with PostgreSQL's programs.",
        )


def choose_account(directory: Path, binaries: Path) -> Account:
    """Return the account for the data directory `directory` and the programs in `binaries`.

    Raises EmbeddedError if there is none that can run the server here safely.
    """
    owner = _owner(directory)
    if os.geteuid() != 0:
        me = _by_uid(os.geteuid(), os.getegid())
        if owner is not None and owner.st_uid != me.uid:
            raise EmbeddedError(
                f"The data directory {directory} belongs to another user (uid {owner.st_uid}).",
                f"Run this as that user, or remove it and start anew as {me.name}.",
            )
        return me
    if owner is not None and owner.st_uid != 0:
        account = _by_uid(owner.st_uid, owner.st_gid)
    else:
        account = _parents_owner(directory) or _nobody()
    account = replace(account, switch=True)
    return replace(account, capability=_capability(account, directory, binaries))


def _owner(directory: Path) -> os.stat_result | None:
    try:
        return directory.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {directory} cannot be looked at: {error.strerror}.",
            "Choose a folder that you may read and write.",
        ) from error


def _by_uid(uid: int, gid: int) -> Account:
    """Return the account with this uid, also when the system has no name for it."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid=uid, gid=gid, name=str(uid))
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(uid=uid, gid=entry.pw_gid, name=entry.pw_name, groups=tuple(groups))


def _parents_owner(directory: Path) -> Account | None:
    """Return the owner of the nearest folder above, None for root and for uids without a name.

    initdb looks up the name of its account and stops where there is none.
    """
    status = _nearest(directory.parent).stat()
    account = _by_uid(status.st_uid, status.st_gid)
    return None if account.uid == 0 or account.name == str(account.uid) else account


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and this system has no account nobody.",
            "Run this as a user other than root.",
        ) from error
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name="nobody")


def _nearest(folder: Path) -> Path:
    """Return `folder` or the nearest folder above it that exists."""
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _may_enter(status: os.stat_result, account: Account) -> bool:
    """Tell whether permission bits let `account` enter a folder or execute a file."""
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid or status.st_gid in account.groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _closed_folders(folder: Path, account: Account) -> list[os.stat_result]:
    statuses = [part.stat() for part in (folder, *folder.parents)]
    return [status for status in statuses if not _may_enter(status, account)]


def _capability(account: Account, directory: Path, binaries: Path) -> str:
    """Return the capability that `account` needs, empty if none.

    Raises EmbeddedError if one is needed and the account's other processes could get at the
    server, who would then be able to read all of root's files through it.
    """
    programs = binaries.resolve()
    closed_data = _closed_folders(_nearest(directory.parent), account)
    executable = _may_enter((programs / "postgres").stat(), account)
    if executable and not closed_data and not _closed_folders(programs, account):
        return ""
    # A folder that is made for the data is made closed.
    shielded = not directory.parent.exists() or any(
        status.st_uid != account.uid for status in closed_data
    )
    if not shielded:
        raise EmbeddedError(
            f"Account {account.name} cannot reach PostgreSQL's programs in {binaries}, "
            "a folder that only root may enter.",
            f"Install the package where {account.name} can read it, or keep the data "
            f"directory {directory} below a folder that only root may enter.",
        )
    # Only dac_override executes a file that has no execute bit for the account.
    if executable and _permitted("dac_read_search"):
        return "dac_read_search"
    return "dac_override"


def _permitted(capability: str) -> bool:
    """Tell whether this process could hand on a capability; True where that cannot be read."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("CapPrm", "CapBnd"))]
    return all(mask >> _CAPABILITY_BITS[capability] & 1 for mask in masks)
