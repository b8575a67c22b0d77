"""Fixtures: real PostgreSQL servers of every supported version, and databases on them."""

import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from runbook.embedded import Server, wheel_binaries
from runbook.sample import load_sample
from runbook.trust.session import Session, open_session

DEBIAN = Path("/usr/lib/postgresql/15/bin")
"""PostgreSQL 15 comes with no wheel; Debian's is used where it is there."""

MAJORS = [15, 16, 18] if (DEBIAN / "postgres").exists() else [16, 18]

# What is durable is not at stake in a test; a crash of the machine ends it anyway.
SETTINGS = {
    "fsync": "off",
    "shared_buffers": "32MB",
    "max_connections": "30",
    "max_prepared_transactions": "5",
}


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database of a test's own."""

    name: str
    conninfo: str
    major: int
    binaries: Path

    @property
    def url(self) -> str:
        """The database as a user would name it."""
        parts = conninfo_to_dict(self.conninfo)
        host = quote(str(parts["host"]), safe="/")
        return f"postgresql://{parts['user']}@/{self.name}?host={host}&port={parts['port']}"

    def connect(self, **parts: Any) -> psycopg.Connection[Any]:
        """Return a connection in autocommit mode."""
        return psycopg.connect(self.conninfo, autocommit=True, **parts)

    def session(self) -> Session:
        """Return a connection as the runbook's own are."""
        return open_session(self.conninfo, application="tests")

    def execute(self, *statements: str) -> None:
        """Execute statements, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str) -> Any:
        """Return the one value of a query."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


class Cluster:
    """A server, and the databases made on it."""

    def __init__(self, major: int, folder: Path) -> None:
        self.major = major
        self.binaries = DEBIAN if major == 15 else wheel_binaries(major)
        # The wheel comes without it.
        more = {"shared_preload_libraries": "pg_stat_statements"} if major == 15 else {}
        self.server = Server(
            folder / f"pg{major}", binaries=self.binaries, settings=SETTINGS | more
        )
        self.server.acquire()
        self.template = ""

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def make(self, template: str = "template0") -> Database:
        """Make a database, as a copy of another."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return Database(
            name=name,
            conninfo=self.server.conninfo(name),
            major=self.major,
            binaries=self.binaries,
        )

    def sample(self) -> Database:
        """Make a database with the sample's 4,052 rows."""
        if not self.template:
            made = self.make()
            with psycopg.connect(made.conninfo) as connection:
                load_sample(connection)
            self.template = made.name
        return self.make(self.template)

    def drop(self, database: Database) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")


@pytest.fixture(scope="session")
def clusters() -> Iterator[dict[int, Cluster]]:
    """The servers that were started so far, by major version; all end with the session."""
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        # The server's own account must be able to reach its data.
        Path(folder).chmod(0o755)
        started: dict[int, Cluster] = {}
        started_in = Path(folder)
        _START[0] = started_in
        yield started
        for cluster in started.values():
            cluster.server.destroy()


_START: list[Path] = [Path()]


def cluster_of(clusters: dict[int, Cluster], major: int) -> Cluster:
    """Return the server of a version, started if it is not yet."""
    if major not in clusters:
        clusters[major] = Cluster(major, _START[0])
    return clusters[major]


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def cluster(request: pytest.FixtureRequest, clusters: dict[int, Cluster]) -> Cluster:
    """A server of each supported version."""
    return cluster_of(clusters, request.param)


NEWEST = [
    pytest.param(major, marks=() if major == MAJORS[-1] else pytest.mark.soak) for major in MAJORS
]
"""The versions for what is many: the newest, the others in the soak."""

OUTERMOST = [
    pytest.param(major, marks=() if major in {MAJORS[0], MAJORS[-1]} else pytest.mark.soak)
    for major in MAJORS
]
"""The oldest and the newest version; `make soak` runs what is between, too."""


@pytest.fixture
def newest(clusters: dict[int, Cluster]) -> Cluster:
    """A server of the newest version, for what does not depend on the version."""
    return cluster_of(clusters, MAJORS[-1])


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """An empty database, on each supported version."""
    made = cluster.make()
    yield made
    cluster.drop(made)


@pytest.fixture
def sample(cluster: Cluster) -> Iterator[Database]:
    """The sample database, on each supported version."""
    made = cluster.sample()
    yield made
    cluster.drop(made)


@pytest.fixture(params=OUTERMOST, ids=lambda major: f"pg{major}")
def sample_outermost(
    request: pytest.FixtureRequest, clusters: dict[int, Cluster]
) -> Iterator[Database]:
    """The sample database on the oldest and the newest version."""
    cluster = cluster_of(clusters, request.param)
    made = cluster.sample()
    yield made
    cluster.drop(made)


@pytest.fixture
def empty_newest(newest: Cluster) -> Iterator[Database]:
    """An empty database on the newest version."""
    made = newest.make()
    yield made
    newest.drop(made)


@pytest.fixture
def sample_newest(newest: Cluster) -> Iterator[Database]:
    """The sample database on the newest version."""
    made = newest.sample()
    yield made
    newest.drop(made)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests may reach them."""
    for name in [n for n in os.environ if n.startswith(("PG", "RUNBOOK_")) or n == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A command that a test calls in this process may leave signals ignored, as it ends."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
