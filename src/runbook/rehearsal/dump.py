"""Copying a schema from one database to another by PostgreSQL's own pg_dump and pg_restore."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from runbook.embedded import wheel_binaries
from runbook.errors import EmbeddedError, RefusedError
from runbook.facts import Server

Section = Literal["pre-data", "post-data"]

LOCK_WAIT_MS = 5_000
"""How long pg_dump waits for somebody's ACCESS EXCLUSIVE lock: it takes ACCESS SHARE itself."""

_FAILED = re.compile(r"^pg_restore: error: could not execute query: ERROR:\s+(.*)$", re.MULTILINE)
_HARMLESS = re.compile(r"unrecognized configuration parameter|schema \"public\" already exists")


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A schema's way from one database to another. It goes through a pipe: a dump holds what may be
    secret, such as the password of a foreign server's user."""

    source: str
    """For libpq; may hold a password."""
    target: str
    server: Server
    ledger_schema: str
    keeps_owners: bool
    snapshot: str
    """An exported snapshot that is dumped; '' for what is there now."""

    def restore(self, section: Section) -> list[str]:
        """Copy a section; return what could not be made there, in the server's words.

        Raises `RefusedError` if pg_dump is not there or fails.
        """
        folder = programs(self.server.version_number // 10_000)
        dumping = [
            *(str(folder / "pg_dump"), "--format=custom", "--schema-only", "--no-publications"),
            *("--no-subscriptions", "--no-security-labels", "--no-password"),
            *(f"--section={section}", f"--exclude-schema={_pattern(self.ledger_schema)}"),
            *(f"--lock-wait-timeout={LOCK_WAIT_MS}", _dbname(self.source)),
        ]
        if self.snapshot:
            dumping.insert(-1, f"--snapshot={self.snapshot}")
        restoring = [str(folder / "pg_restore"), "--no-password", _dbname(self.target)]
        if not self.keeps_owners:
            restoring += ["--no-owner", "--no-privileges"]
        with subprocess.Popen(
            dumping, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(self.source)
        ) as dump:
            restored = subprocess.run(
                restoring,
                stdin=dump.stdout,
                capture_output=True,
                env=_environment(self.target),
                check=False,
            )
            assert dump.stderr is not None
            told = dump.stderr.read().decode(errors="replace")
        if dump.returncode:
            raise RefusedError(
                f"The schema could not be dumped: {_last(told)}.",
                "Nothing was changed. Rehearse with --scratch schema, which needs no dump.",
            )
        failed = _FAILED.findall(restored.stderr.decode(errors="replace"))
        return [one for one in failed if not _HARMLESS.search(one)]


def programs(major: int) -> Path:
    """Return the folder of a pg_dump that reads that version: of the same, or else of the next one.

    Raises `RefusedError` if there is none here.
    """
    found = sorted(
        (version, place)
        for place, version in ((one, _version(one)) for one in _folders(major))
        if version is not None and version >= major
    )
    if not found:
        raise RefusedError(
            f"There is no pg_dump of PostgreSQL {major} or newer here to copy the schema with.",
            "Nothing was changed. Install PostgreSQL's client programs, or pip install "
            "'migration-runbook[embedded]', or rehearse with --scratch schema.",
        )
    return found[0][1]


def _folders(major: int) -> Iterator[Path]:
    """Yield where pg_dump may be."""
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    on_path = shutil.which("pg_dump")
    if on_path:
        yield Path(on_path).parent
    for known in (16, 18):
        try:
            yield wheel_binaries(known)
        except EmbeddedError:
            return


@cache
def _version(folder: Path) -> int | None:
    """Return the major version of a folder's pg_dump, or None if there is no such pair."""
    if not all((folder / name).is_file() for name in ("pg_dump", "pg_restore")):
        return None
    asked = subprocess.run(
        [str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False
    )
    told = re.search(r"\) (\d+)", asked.stdout)
    return int(told[1]) if told else None


def _dbname(conninfo: str) -> str:
    """Return the option that names a database, without what must not stand in a process list."""
    parts = conninfo_to_dict(conninfo)
    if parts.get("sslpassword"):
        raise RefusedError(
            "The key of the connection has a passphrase, which pg_dump would take from its command "
            "line alone.",
            "Nothing was changed. Rehearse with --scratch schema, which needs no dump.",
        )
    return "--dbname=" + make_conninfo(
        "", **{key: part for key, part in parts.items() if key != "password" and part is not None}
    )


def _environment(conninfo: str) -> dict[str, str]:
    """Return the environment with the password in it, by which libpq takes it unseen."""
    password = conninfo_to_dict(conninfo).get("password")
    return {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": str(password)} if password else {})}


def _pattern(name: str) -> str:
    """Return pg_dump's pattern that means just this name (docs, psql, Patterns)."""
    return '"' + name.replace('"', '""') + '"'


def _last(told: str) -> str:
    """Return the error of a program's messages in one line."""
    lines = [line.partition("error: ")[2] for line in told.splitlines() if "error: " in line]
    return (lines[0] if lines else "it gave no reason").rstrip(".")
