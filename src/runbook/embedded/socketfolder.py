"""Where the server's Unix socket lies: in the data directory, or in a short private folder.

The address of a Unix socket holds 107 bytes (103 on macOS), and libpq takes a comma in it for
the end of a host name.
"""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from runbook.embedded.account import Account
from runbook.errors import EmbeddedError

_MOST_BYTES = 103
_LONGEST_NAME = ".s.PGSQL.65535.lock"


def socket_folder(directory: Path, account: Account) -> Path:
    """Return the folder of the socket for this data directory and account; makes nothing."""
    if _is_usable(directory):
        return directory
    key = os.fsencode(directory) + f":{account.uid}".encode()
    name = f"runbook-{hashlib.sha256(key).hexdigest()[:16]}"
    temporary = Path(tempfile.gettempdir()).resolve()
    folder = temporary / name / "s"
    return folder if _is_usable(folder) else Path("/tmp").resolve() / name / "s"


def make_socket_folder(directory: Path, account: Account) -> Path:
    """Return the folder of the socket, made private if it is one in the temporary folder.

    Raises EmbeddedError if somebody else's file or folder is in its place.
    """
    folder = socket_folder(directory, account)
    if folder != directory:
        # With a capability the server must be out of reach for its account's other processes.
        outer_uid = os.geteuid() if account.capability else account.uid
        _make_private(folder.parent, outer_uid, -1 if account.capability else account.gid)
        _make_private(folder, account.uid, account.gid)
    return folder


def remove_socket_folder(directory: Path, account: Account) -> None:
    """Remove the folder in the temporary folder, if there is one and it is empty."""
    folder = socket_folder(directory, account)
    if folder != directory:
        for path in (folder, folder.parent):
            try:
                path.rmdir()
            except OSError:
                return


def _is_usable(folder: Path) -> bool:
    path = os.fsencode(folder / _LONGEST_NAME)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(path) <= _MOST_BYTES and b"," not in path


def _make_private(folder: Path, uid: int, gid: int) -> None:
    """Make `folder` with mode 0700 for `uid`, or check that it is one already."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid not in (uid, os.geteuid())
        or status.st_mode & 0o077
    ):
        raise EmbeddedError(
            f"{folder}, where the server's socket belongs, is not a private folder of this user.",
            "Look who made it and remove it, or set TMPDIR to a folder of your own.",
        )
    if status.st_uid != uid:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)
