"""Nothing that an owner of a schema plants is ever called by the runbook's own SQL."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.embedded import Server, wheel_binaries
from runbook.spec import parse_spec
from tests.conftest import DEBIAN, MAJORS, NEWEST, Cluster
from tests.migrating import stop_online
from tests.trust.owners import DOMAINS, NOCASE, Owned, on_domains, owned
from tests.trust.traps import TRACE, Names, planted, statements

TEXT = on_domains()
LOGGED = {"log_statement": "all", "log_min_messages": "log", "max_connections": "30",
          "fsync": "off"}  # fmt: skip
FLEET = """
name = "all"
spec = "sorting.toml"
[[target]]
url = "env:DATABASE_URL"
"""


class LoggingCluster(Cluster):
    """A server of its own, which logs every statement."""

    def __init__(self, major: int, folder: Path) -> None:
        self.major = major
        self.binaries = DEBIAN if major == 15 else wheel_binaries(major)
        self.server = Server(folder / f"pg{major}", binaries=self.binaries, settings=LOGGED)
        self.server.acquire()
        self.template = ""

    def log(self) -> str:
        """Return what the server logged so far."""
        (path,) = self.server.directory.rglob("server.log")
        return path.read_text("utf-8", errors="replace")


@pytest.fixture(scope="module")
def logging() -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        Path(folder).chmod(0o755)
        started: dict[int, LoggingCluster] = {}

        def of(major: int) -> LoggingCluster:
            if major not in started:
                started[major] = LoggingCluster(major, Path(folder))
            return started[major]

        yield of
        for one in started.values():
            one.server.destroy()


def every_command(place: Owned) -> None:
    """Run every command that touches the database, in both modes, as a superuser."""
    (place.folder / "FLEET.toml").write_text(FLEET, "utf-8")
    spec = ("--spec", "sorting.toml")
    copy = place.database.name + "_copy"
    place.database.execute(f"CREATE DATABASE {copy} TEMPLATE {place.database.name}")
    scripts = {}
    for mode in ("atomic", "online"):
        scripts[mode] = _right(place.run("plan", *spec, "--mode", mode)).stdout
    _psql(place, scripts["atomic"], copy)
    place.database.execute(
        f"DROP DATABASE {copy}", f"CREATE DATABASE {copy} TEMPLATE {place.database.name}"
    )
    _psql(place, scripts["online"], copy)
    place.database.execute(f"DROP DATABASE {copy}")
    for arguments in (
        ("review", *spec),
        # What would run by making it is refused elsewhere: these functions are not attached.
        ("rehearse", *spec, "--scratch", "database", "--trust-owner-code"),
        ("rehearse", *spec, "--scratch", "schema"),
        ("migrate", *spec, "--mode", "atomic", "--proof", "sha256"),
        ("verify", *spec),
        ("migrate", *spec),
        ("rollback", *spec),
        ("migrate", *spec, "--mode", "online", "--old-name-view"),
        ("status", *spec),
        ("verify", *spec),
        ("contract", *spec, "--watch-s", "0"),
        ("rollback", *spec),
        ("fleet", "FLEET.toml"),
        ("rollback", *spec),
    ):
        _right(place.run(*arguments))
    parsed = parse_spec(TEXT, file="sorting.toml")
    stop_online(place.database, "backfill", parsed)
    _right(place.run("status", *spec))
    _right(place.run("rollback", *spec))
    stop_online(place.database, "index", parsed)
    _right(place.run("migrate", *spec))


def _right(ended: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert ended.returncode == 0, f"{ended.args}\n{ended.stdout}\n{ended.stderr}"
    return ended


def _psql(place: Owned, script: str, database: str) -> None:
    path = place.folder / "plan.sql"
    path.write_text(script, "utf-8")
    conninfo = place.database.conninfo.replace(place.database.name, database)
    program = place.database.binaries / "psql"
    ended = subprocess.run(
        [program, "-X", "-q", "-d", conninfo, "-f", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def names(logging: Any, tmp_path_factory: pytest.TempPathFactory) -> Names:
    """What the runbook's SQL names, as the server logged it."""
    cluster = logging(MAJORS[-1])
    with owned(cluster, tmp_path_factory.mktemp("names"), TEXT) as place:
        make_domains(place)
        every_command(place)
        found = Names()
        for text in statements(cluster.log()):
            found.add(text)
    assert {("count", 0), ("hash_record_extended", 2), ("starts_with", 2)} <= found.functions
    assert {("nocase_eq", 2), ("nocase_like", 2), ("nocase_out", 1)} <= found.functions
    assert {"=", "~~", "||", "~"} <= found.operators and {"text", "regclass"} <= found.types
    assert {"pg_class", "pg_attribute", "pg_locks"} <= found.relations
    return found


def make_domains(place: Owned) -> None:
    """Give the table columns of domains over an extension's type."""
    place.database.execute(*NOCASE)
    place.as_owner(*DOMAINS)


def plant(place: Owned, names: Names) -> int:
    """Plant the traps; return how many there are. What PostgreSQL itself refuses is left out."""
    made = 0
    with place.database.connect() as connection:
        connection.execute(f"SET ROLE {place.owner}".encode())
        for statement in planted(names, "app", "app.status"):
            try:
                connection.execute(statement.encode())
                made += 1
            except psycopg.errors.Error as error:
                assert error.sqlstate in _LEFT_OUT, f"{statement}\n{error}"
    return made


_LEFT_OUT = {
    "42723",  # two that differ in nothing that counts
    "42P13",  # a polymorphic result that no argument determines
    "42701",  # a view with two columns of one name
    "42883",  # an operator's function that was left out
    "42P16",
    "42809",
    "42501",
}


@pytest.mark.parametrize("major", NEWEST)
@pytest.mark.parametrize(
    "path",
    [
        "app, pg_catalog",
        pytest.param("pg_catalog, app", marks=pytest.mark.soak),
    ],
)
def test_no_trap_is_sprung_by_any_command(
    path: str, major: int, names: Names, logging: Any, tmp_path: Path
) -> None:
    """Whatever the owner of the database has made its search_path."""
    cluster = logging(major)
    with owned(cluster, tmp_path, TEXT) as place:
        make_domains(place)
        assert plant(place, names) > 3_000
        place.database.execute(f"ALTER DATABASE {place.database.name} SET search_path = {path}")
        before = len(cluster.log())
        # The traps are at work: whoever looks a name up there falls into one.
        with place.database.connect() as connection:
            connection.execute("SELECT 'a'::pg_catalog.varchar = 'a'::pg_catalog.varchar")
        assert TRACE in cluster.log()[before:]
        before = len(cluster.log())
        every_command(place)
        assert list(sprung(cluster.log()[before:])) == []


def sprung(log: str) -> Iterator[str]:
    """Yield the traps that were called, each with the session's statement."""
    latest: dict[str, str] = {}
    for entry in re.split(r"^(?=\S)", log, flags=re.MULTILINE):
        session = re.search(r"\[(\d+)\]", entry)
        if session and re.search(r"LOG:  (statement|execute)", entry):
            latest[session[1]] = entry
        elif session and f"LOG:  {TRACE}" in entry:
            yield f"{entry}{latest.get(session[1], '')}"
