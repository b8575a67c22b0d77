"""Making a data directory, its settings file, and removing it; all of them whole or not at all.

A data directory is made under another name beside its place and renamed when it is complete.
What a killed process left under such a name is removed by the next one.
"""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from runbook.embedded.account import Account
from runbook.embedded.connection import SUPERUSER
from runbook.embedded.postmaster import kill_group
from runbook.errors import EmbeddedError, UsageError

SETTINGS_FILE = "runbook.conf"

_INITDB_S = 120.0
_SEEN_LINES = 5


def version(directory: Path) -> int | None:
    """Return the major version of the data directory, None if it is not there or empty.

    Raises EmbeddedError if there is something else than a data directory of this package.
    """
    try:
        if not any(directory.iterdir()):
            return None
        if (directory / SETTINGS_FILE).is_file():
            return int((directory / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise EmbeddedError(
            f"The data directory {directory} cannot be read: {reason}.",
            "Run this as the user who made it, or choose another name.",
        ) from error
    raise EmbeddedError(
        f"{directory} is not empty and was not made by the runbook's embedded server.",
        "Choose another name, or move that folder away.",
    )


def settings_text(
    settings: Mapping[str, str], *, socket_folder: Path, port: int, tcp: bool
) -> bytes:
    """Return the settings file's content.

    Raises UsageError for a name that is none of a setting.
    """
    values = {
        **settings,
        "listen_addresses": "127.0.0.1" if tcp else "",
        "port": str(port),
        "unix_socket_directories": '"' + str(socket_folder).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "password_encryption": "scram-sha-256",
        "logging_collector": "off",
    }
    for name in values:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
            raise UsageError(f"{name!r} is not the name of a PostgreSQL setting.", "Mend the name.")
    lines = [f"{name} = {_quoted(value)}" for name, value in values.items()]
    text = "\n".join(["# Written anew at each start. Use ALTER SYSTEM for your own.", *lines, ""])
    return os.fsencode(text)


def write_settings(directory: Path, content: bytes, account: Account) -> None:
    """Replace the settings file in one step."""
    temporary = directory / f"{SETTINGS_FILE}.new"
    temporary.unlink(missing_ok=True)
    with os.fdopen(account.open(temporary, os.O_WRONLY), "wb") as file:
        file.write(content)
    temporary.replace(directory / SETTINGS_FILE)


def create(
    directory: Path,
    binaries: Path,
    account: Account,
    *,
    content: bytes,
    lock: int,
    durable: bool,
    checksums: bool,
) -> None:
    """Make the data directory, with `content` as its settings file.

    initdb inherits the lock descriptor: if this process is killed, the next one waits for
    initdb's end too. `durable` is whether everything is written to disk before this returns,
    `checksums` whether pages get checksums whatever initdb's own default.
    Raises EmbeddedError with initdb's last lines if it fails.
    """
    partial = directory.parent / f"{directory.name}.partial-{secrets.token_hex(4)}"
    _make_folder(partial, account)
    try:
        _initdb(partial, binaries, account, lock=lock, durable=durable, checksums=checksums)
        with (partial / "postgresql.conf").open("a") as file:
            file.write(f"\ninclude '{SETTINGS_FILE}'\n")
        write_settings(partial, content, account)
        partial.rename(directory)
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {directory} cannot be made: {error.strerror}.",
            "Choose a folder that you may write and whose disk has 100 MB of room.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _sync_folder(directory.parent)


def remove_partial(directory: Path) -> None:
    """Remove what a killed process had begun to make or to remove beside the data directory."""
    prefix = f"{directory.name}.partial-"
    for path in directory.parent.iterdir():
        if path.name.startswith(prefix):
            shutil.rmtree(path, ignore_errors=True)


def remove(directory: Path) -> None:
    """Remove the data directory; a half-removed one never stands in its place.

    Raises EmbeddedError if it cannot be removed.
    """
    partial = directory.parent / f"{directory.name}.partial-{secrets.token_hex(4)}"
    try:
        directory.rename(partial)
        shutil.rmtree(partial)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {directory} cannot be removed: {error.strerror}.",
            "Remove it as the user who owns the folder that it is in.",
        ) from error


def _make_folder(folder: Path, account: Account) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise EmbeddedError(
            f"The folder {folder.parent} cannot be written: {error.strerror}.",
            "Choose a folder that you may write.",
        ) from error
    if account.switch:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(descriptor, account.uid, account.gid)
        finally:
            os.close(descriptor)


def _initdb(
    folder: Path,
    binaries: Path,
    account: Account,
    *,
    lock: int,
    durable: bool,
    checksums: bool,
) -> None:
    arguments: list[str | Path] = [
        binaries / "initdb",
        f"--pgdata={folder}",
        f"--username={SUPERUSER}",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-instructions",
    ]
    if checksums:
        arguments.append("--data-checksums")
    if not durable:
        arguments.append("--no-sync")
    with account.popen(arguments, pass_fds=[lock]) as process:
        try:
            output = process.communicate(timeout=_INITDB_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            output = f"it took longer than {_INITDB_S:.0f} s"
        finally:
            # On a keyboard interrupt too: it is in a session of its own.
            kill_group(process)
    if process.returncode != 0:
        lines = "\n".join(output.strip().splitlines()[-_SEEN_LINES:])
        raise EmbeddedError(
            f"The data directory {folder} cannot be made; initdb says:\n{lines}",
            "Mend what it names, then run this again.",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(value: str) -> str:
    """Quote a value for a PostgreSQL settings file."""
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"
