"""A copy on an embedded server of its own, beside which the original's server does nothing but be
read: the schema by pg_dump, and the rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runbook import sql
from runbook.embedded import Server, wheel_binaries
from runbook.errors import EmbeddedError, RefusedError
from runbook.rehearsal.copy import PREFIX, Copy, Scratch, scratch_name
from runbook.rehearsal.in_database import Filled, fill

_MAJORS = (16, 18)
"""The versions that the wheel has."""


@contextmanager
def copied(wanted: Scratch) -> Iterator[Copy]:
    """Yield a copy on a server that is there for it alone, and remove that afterwards."""
    major = wanted.catalog.server.version_number // 10_000
    fitting = next((one for one in _MAJORS if one >= major), None)
    if fitting is None:
        raise RefusedError(
            f"The server is PostgreSQL {major}, and the embedded one is {_MAJORS[-1]} at the most.",
            "Nothing was changed. Rehearse with --scratch database or --scratch schema.",
        )
    root = Path.cwd() / ".runbook"
    _remove_abandoned(root)
    name = scratch_name()
    server = Server(root / name, binaries=wheel_binaries(fitting))
    try:
        with server.lease():
            _make(server, name)
            conninfo = make_conninfo(server.conninfo(name), user=_OWNER)
            where = f"an embedded PostgreSQL {fitting} on {os.uname().nodename}"
            yield fill(wanted, Filled(conninfo=conninfo, where=where, keeps_owners=False))
    finally:
        server.destroy()


_OWNER = "runbook_rehearsal"
"""The role that the copy belongs to. It is no superuser: the copy's triggers and functions are the
original's, and a superuser's could run programs on this machine (COPY … TO PROGRAM)."""


def _make(server: Server, name: str) -> None:
    """Make the database, and its owner, who may hold triggers back while the rows come in."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        for text in (
            "CREATE ROLE {owner} LOGIN",
            "GRANT SET ON PARAMETER session_replication_role TO {owner}",
            "CREATE DATABASE {name} TEMPLATE template0 OWNER {owner}",
        ):
            connection.execute(sql.render(text, owner=_OWNER, name=name).encode())


def _remove_abandoned(root: Path) -> None:
    """Remove what rehearsals that were killed have left behind; a server in use is left alone."""
    for folder in root.glob(f"{PREFIX}*"):
        if folder.is_dir():
            try:
                Server(folder).destroy()
            except EmbeddedError:
                continue
