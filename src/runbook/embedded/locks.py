"""The two lock files beside a data directory: who starts or stops the server, and who uses it.

Both are flock(2) locks: the kernel drops them however their holder ends, so nothing that was
killed can leave one behind.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook.embedded.account import Account
from runbook.errors import EmbeddedError

_POLL_S = 0.02


@contextmanager
def exclusive(path: Path, account: Account, *, timeout_s: float) -> Iterator[int]:
    """Hold the lock file `path` alone; yields its descriptor.

    Raises EmbeddedError if another process holds it for longer than `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        descriptor = _open(path, account)
        try:
            _wait(descriptor, path, deadline)
            # Its last holder may have removed the file: then the lock is on nothing.
            if _is_same_file(descriptor, path):
                yield descriptor
                return
        finally:
            _close(descriptor)


class Lease:
    """A shared lock on a file, held by each process that uses the server.

    Made, asked and closed only while the caller holds the `exclusive` lock beside it.
    """

    def __init__(self, path: Path, account: Account) -> None:
        """Take the lock. Raises EmbeddedError if the file cannot be opened."""
        self._descriptor = _open(path, account)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def is_only(self) -> bool:
        """Tell whether nobody else holds a lease; this one is kept."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            # A refused conversion has dropped the shared lock too.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return True

    def close(self) -> None:
        """Give the lease up."""
        _close(self._descriptor)

    def forget(self) -> None:
        """Close the descriptor that a fork copied, without ending the parent's lease."""
        os.close(self._descriptor)


def _open(path: Path, account: Account) -> int:
    try:
        return account.open(path, os.O_RDWR)
    except OSError as error:
        raise EmbeddedError(
            f"The lock file {path} cannot be opened: {error.strerror}.",
            "Run this as the user who made it, or choose a folder that you may write.",
        ) from error


def _wait(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Another process is still starting or stopping the server of {path}.",
                    "Wait for it to end, or end it, and run this again.",
                ) from None
            time.sleep(_POLL_S)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _close(descriptor: int) -> None:
    # Unlocked by name: a child caught between fork and exec has a copy for a moment.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
