"""Writing and locking files in a folder where others may write, too.

Whoever may write in a folder may rename what is in it, and put a link, a pipe or a folder of their
own in its place, at any moment. So nothing is written by a name that could have been there before,
and what was written is held open until it stands in its place, and is compared with what stands
there.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class NewFolder:
    """A new folder that only this account may write into, held open."""

    def __init__(self, place: int, name: str, folder: int) -> None:
        self._place = place
        self._name = name
        self._folder = folder
        self._written: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        """Write a new file, and force it to disk. Raises `OSError` where there is one of that name,
        or the folder belongs to somebody else."""
        descriptor = os.open(name, _NEW, 0o666, dir_fd=self._folder)
        self._written.append(name)
        with os.fdopen(descriptor, "wb") as file:
            # By the file system's own word: over a network it may know this account by another id.
            owner, ours = os.fstat(self._folder).st_uid, os.fstat(descriptor).st_uid
            if owner != ours:
                raise _meddled(f"{self._name} is now a folder of account {owner}, not of {ours}")
            file.write(data)
            file.flush()
            os.fsync(descriptor)

    def publish(self, name: str) -> None:
        """Give the folder its name beside it, for everybody to read. Raises `OSError` where it is
        not this folder that has the name afterwards."""
        os.fchmod(self._folder, 0o755)
        os.fsync(self._folder)
        _rename(self._folder, self._name, name, self._place)

    def remove(self) -> None:
        """Remove what was written, unless the folder has another name by now."""
        with suppress(OSError):
            _compare(self._folder, self._name, self._place)
            for name in self._written:
                os.unlink(name, dir_fd=self._folder)
            os.rmdir(self._name, dir_fd=self._place)


@contextmanager
def new_folder(place: Path, prefix: str) -> Iterator[NewFolder]:
    """Make a folder in another one, under a new name with that prefix; it is removed again if
    anything fails before it is published. Raises `OSError` where it cannot be made."""
    with _opened(place) as outer:
        name = f"{prefix}{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=outer)
        with _opened_new(name, outer) as folder:
            made = NewFolder(outer, name, folder)
            try:
                yield made
            except BaseException:
                made.remove()
                raise


def replace_file(path: Path, data: bytes) -> None:
    """Put a new file into a path's place, whole or not at all, and force it to disk. What stands
    there is replaced and never written into. Raises `OSError`."""
    with _opened(path.parent) as folder:
        part = f".{path.name}.{secrets.token_hex(8)}.partial"
        descriptor = os.open(part, _NEW, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
                _rename(descriptor, part, path.name, folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(part, dir_fd=folder)
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where there is none. Raises `OSError` where something
    else than a file stands there; a pipe is not waited for."""
    lock = _open_lock(path)
    try:
        there = os.fstat(lock)
        if not stat.S_ISREG(there.st_mode):
            raise _no_file(path, there)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
        except PermissionError:
            # Another account's; flock asks for no more.
            return os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_file(path, os.lstat(path)) from None
        raise


def _no_file(path: Path, there: os.stat_result) -> OSError:
    return _meddled(f"{path} is {_said(there)}, and no file that could be locked")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_new(name: str, place: int) -> Iterator[int]:
    """Open a folder that was just made. Raises `OSError` where it is none any more."""
    try:
        folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=place)
    except (NotADirectoryError, FileNotFoundError):
        raise _meddled(f"{name} is no longer the folder that was made: somebody else who may write "
                       "there renamed it") from None  # fmt: skip
    try:
        yield folder
    finally:
        os.close(folder)


def _rename(held: int, before: str, after: str, folder: int) -> None:
    """Rename what is held open, and nothing else. Raises `OSError` where something else had one of
    the names."""
    _compare(held, before, folder)
    os.rename(before, after, src_dir_fd=folder, dst_dir_fd=folder)
    _compare(held, after, folder)


def _compare(held: int, name: str, folder: int) -> None:
    """Raise `OSError` unless the name is of what is held open."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise _meddled(f"{name} is gone: somebody else removed or renamed it") from None
    if not os.path.samestat(there, os.fstat(held)):
        raise _meddled(f"{name} is now {_said(there)}, and not what was written: somebody else who "
                       "may write there put it in its place")  # fmt: skip


def _said(there: os.stat_result) -> str:
    """Return what was found, and whose it is."""
    kind = _KINDS.get(stat.S_IFMT(there.st_mode), "a device")
    return f"{kind} of account {there.st_uid}"


def _meddled(what: str) -> OSError:
    return OSError(errno.ESTALE, what)
