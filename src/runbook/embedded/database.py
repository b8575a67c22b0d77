"""`embedded:NAME`: a database of that name on the embedded server of that name."""

from functools import cache

import psycopg

from runbook import sql
from runbook.embedded.server import Server, embedded_server
from runbook.sample import load_sample

DEMO = "demo"
"""The name whose database comes with the sample data."""

_LEASED: set[str] = set()
"""The servers that this process keeps up until it ends."""

_LOCK = 0x72756E62
"""Advisory lock key under which the database is made ("runb")."""


def embedded_conninfo(name: str) -> str:
    """Start the server, or join it, for as long as this process lives; return how to connect.

    The database is made when it is not there; that of `demo` is filled with the sample data.
    Raises `UsageError` for a bad name and `EmbeddedError` when the server cannot run here.
    """
    server = _server(name)
    if name not in _LEASED:
        server.acquire()
        _LEASED.add(name)
    _make_database(server, name)
    return server.conninfo(name)


def forget(name: str) -> None:
    """Remove the server and everything in it. Raises `EmbeddedError` while somebody uses it."""
    _server(name).destroy()
    _LEASED.discard(name)


@cache
def _server(name: str) -> Server:
    """Return this process's one object for a server, which counts its leases."""
    return embedded_server(name)


def _make_database(server: Server, name: str) -> None:
    """Make the database, one process at a time."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(
                sql.render("CREATE DATABASE {name} TEMPLATE template0", name=name).encode()
            )
        if name == DEMO:
            _fill(server.conninfo(name))


def _fill(conninfo: str) -> None:
    """Load the sample into a database that has no tables yet."""
    with psycopg.connect(conninfo) as connection:
        held = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone()
        if held == (0,):
            load_sample(connection)
