"""The canary: a password that is found nowhere in what any run writes, says or starts.

Each way to give a password meets each thing that a run may do or suffer. Everything below the
working folder, both output streams, the command lines of every process that was started and the
ledger are searched, in every encoding that text is likely to go through.
"""

import base64
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from _pytest.mark import ParameterSet
from psycopg import sql

from runbook.embedded import Server
from tests.notebook.papermilling import environment, notebook, with_cell
from tests.own_server import server_with_sample

CORE = "kaNaRy7Vq"
"""Stands in every password that is no harmless word; no escaping alters it."""

DATABASE = "music"

PASSWORDS = {
    "plain": CORE,
    "punctuated": f'it\'s "{CORE}" & <50%41> \\ #1',
    "with an at": f"p@{CORE}:x/y?z=1",
    "non-ascii": f"pässwörd-{CORE}-寿司",
    "harmless": DATABASE,
}


@dataclass
class Case:
    """One run: where it is, and what it is given."""

    server: Server
    folder: Path
    role: str
    password: str
    arguments: list[str] = field(default_factory=list)
    """How the database is named: the value of `--database-url` or of the parameter."""
    variables: dict[str, str] = field(default_factory=dict)
    database: str = DATABASE

    @property
    def port(self) -> int:
        return int(self.server.tcp_url().rpartition(":")[2].partition("/")[0])

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}/{self.database}"

    @property
    def url(self) -> str:
        return f"postgresql://{self.role}:{quote(self.password, safe='')}@{self.place}"

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.server.conninfo(self.database), autocommit=True)


# -- ways to give a password -----------------------------------------------------------------------


def userinfo(case: Case) -> str:
    return case.url


def query(case: Case) -> str:
    password = quote(case.password, safe="")
    return f"postgresql://{case.role}@{case.place}?password={password}"


def variable(case: Case) -> str:
    case.variables["DATABASE_URL"] = case.url
    return "env:DATABASE_URL"


def pgpassword(case: Case) -> str:
    case.variables["PGPASSWORD"] = case.password
    return f"postgresql://{case.role}@{case.place}"


def outside(case: Case, name: str, text: str) -> str:
    """Write a file beside the folder that is searched."""
    path = case.folder.parent / f"{name}-{case.role}"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return str(path)


def passfile(case: Case) -> str:
    escaped = case.password.replace("\\", "\\\\").replace(":", "\\:")
    line = f"127.0.0.1:*:*:{case.role}:{escaped}\n"
    case.variables["PGPASSFILE"] = outside(case, "pgpass", line)
    return f"postgresql://{case.role}@{case.place}"


def service(case: Case) -> str:
    lines = ["[canary]", "host=127.0.0.1", f"port={case.port}", f"user={case.role}",
             f"password={case.password}", f"dbname={case.database}"]  # fmt: skip
    case.variables["PGSERVICEFILE"] = outside(case, "service", "\n".join(lines) + "\n")
    return "postgresql:///?service=canary"


FORMS: list[Callable[[Case], str]] = [userinfo, query, variable, pgpassword, passfile, service]

# -- what a run may do or suffer -------------------------------------------------------------------

Run = Callable[[Case, str], subprocess.CompletedProcess[str]]


def runbook(case: Case, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return watched(case, [sys.executable, "-m", "runbook", *arguments, "--database-url", url])


def papermill(case: Case, url: str, source: Path, *arguments: str) -> (
    subprocess.CompletedProcess[str]
):  # fmt: skip
    program = str(Path(sys.executable).with_name("papermill"))
    named = arguments or ("-p", "database_url", url)
    return watched(case, [program, str(source), "out.ipynb", "--log-output", *named])


def review(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return succeeded(runbook(case, url, "review", "--json"))


def migrate(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return succeeded(runbook(case, url, "migrate", "--debug"))


def bare_migrate(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return succeeded(papermill(case, url, notebook("migrate")))


def verify_refused(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return failed(runbook(case, url, "verify", "--debug"), 3)


def rolled_back(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    with case.connect() as connection:
        connection.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'no'; END$$"
        )
        connection.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON enrichment_logs FOR EACH ROW EXECUTE FUNCTION no()"
        )
    return failed(runbook(case, url, "migrate"), 5)


def refused_by_the_server(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    """The password is wrong, and a secret all the same: it may be right somewhere else."""
    with case.connect() as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD 'another one'").format(sql.Identifier(case.role))
        )
    return failed(runbook(case, url, "migrate", "--debug"), 3)


def misspelt(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return failed(papermill(case, url, notebook("migrate"), "-p", "databse_url", url))


def killed(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    code = "import os; os.kill(os.getpid(), 9)"
    return failed(papermill(case, url, with_cell(notebook("migrate"), "apply", code, nb(case))))


def verbose(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    """A traceback that prints every local variable and every bound parameter."""
    code = (
        "%xmode Verbose\n"
        "from sqlalchemy import create_engine, text\n"
        "target, conninfo = run.target, run.target.conninfo\n"
        "engine = create_engine('postgresql+psycopg://', creator=lambda: run.open())\n"
        "with engine.connect() as connection:\n"
        "    connection.execute(text('SELECT :it::integer'), {'it': conninfo})\n"
    )
    return failed(papermill(case, url, with_cell(notebook("migrate"), "apply", code, nb(case))))


SHOUT = """
import base64, html, json, logging, os, sys, urllib.parse
from psycopg.conninfo import conninfo_to_dict
connection = run.open()
given = conninfo_to_dict(run.target.conninfo)
secret = given.get("password") or connection.pgconn.password.decode()
print(secret, file=sys.stderr)
run.tell(secret)
logging.getLogger().error("secret is %s", secret)
os.write(1, secret.encode())
for text in (secret, repr(secret), json.dumps({"a": secret}), html.escape(repr(secret)),
             urllib.parse.quote(secret), base64.b64encode(f"user:{secret}".encode()).decode(),
             secret.encode().hex(), json.dumps(json.dumps(secret))):
    print(text)
display({"text/html": f"<b>{html.escape(secret)}</b>", "application/json": {secret: [secret]}},
        raw=True)
raise ValueError(secret)
"""


def shouted(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    """A cell that does all it can to give the password away."""
    return failed(papermill(case, url, with_cell(notebook("migrate"), "apply", SHOUT, nb(case))))


def online_and_contracted(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    given = ("--mode", "online", "--old-name-view", "--debug")
    return joined(
        succeeded(runbook(case, url, "migrate", *given)),
        succeeded(runbook(case, url, "contract", "--watch-s", "0", "--json")),
    )


STOPPING = """
def strike(text, *share, tell=run.tell):
    tell(text, *share)
    if text == "index: begins":
        raise KeyboardInterrupt

run.tell = strike
"""


def stopped(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    """A run that is interrupted midway, and what is then said of it."""
    source = with_cell(notebook("migrate"), "apply", STOPPING, nb(case))
    named = ("-p", "database_url", url, "-p", "mode", "online")
    return joined(
        failed(papermill(case, url, source, *named), 6),
        succeeded(runbook(case, url, "status", "--json", "--debug")),
    )


def stopped_and_resumed(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return joined(stopped(case, url), succeeded(runbook(case, url, "migrate", "--json")))


def stopped_and_taken_back(case: Case, url: str) -> subprocess.CompletedProcess[str]:
    return joined(
        stopped(case, url),
        succeeded(papermill(case, url, notebook("rollback"))),
        failed(runbook(case, url, "rollback", "--debug"), 3),
    )


RUNS: list[Run] = [review, migrate, bare_migrate, verify_refused, rolled_back,
                   refused_by_the_server, misspelt, killed, verbose, shouted,
                   online_and_contracted, stopped_and_resumed, stopped_and_taken_back]  # fmt: skip


def joined(*ended: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Return several commands as one that said all that they did."""
    out, err = ("".join(one.stdout for one in ended), "".join(one.stderr for one in ended))
    return subprocess.CompletedProcess([], ended[-1].returncode, out, err)


def nb(case: Case) -> Path:
    return case.folder.parent / f"struck-{case.role}.ipynb"


def succeeded(ended: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert ended.returncode == 0, ended.stderr
    return ended


def failed(
    ended: subprocess.CompletedProcess[str], code: int | None = None
) -> subprocess.CompletedProcess[str]:
    assert ended.returncode if code is None else ended.returncode == code, ended.stderr
    return ended


# -- watching and searching ------------------------------------------------------------------------


def watched(case: Case, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; hold that no process that it starts has the password in its command line."""
    process = subprocess.Popen(
        command,
        cwd=case.folder,
        env=environment(**case.variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    own: set[bytes] = set()
    seen: set[bytes] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for pid in descendants(process.pid):
                with suppress(OSError):
                    lines = own if pid == process.pid else seen
                    lines.add(Path(f"/proc/{pid}/cmdline").read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        ended.set()
        watcher.join()
    # A child that was just forked still shows the command that it was forked from.
    for line in seen - own:
        assert traces(line.replace(b"\0", b" "), case.password) == []
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def descendants(pid: int) -> set[int]:
    """Return a process and all that it started, where the system tells."""
    found = {pid}
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found |= descendants(int(child))
    return found


def traces(data: bytes, password: str) -> list[str]:
    """Return how the password stands in data."""
    if password == DATABASE:
        # A word of the report itself: it must not be said to be the password.
        told = (f":{password}@", f":{password}%40", f"password={password}", f"password='{password}")
        return [text for text in told if text.encode() in data]
    forms: dict[str, bytes] = {"plain": CORE.encode(), "reversed": CORE[::-1].encode()}
    for name in ("utf-16-le", "utf-16-be", "utf-32-le"):
        forms[name] = CORE.encode(name)
    forms["hexadecimal"] = CORE.encode().hex().encode()
    for place in range(3):
        code = base64.b64encode(bytes(place) + CORE.encode() + bytes(3))
        forms[f"base64 at {place}"] = code[4 if place else 0 : -8]
    return [name for name, form in forms.items() if form in data]


def assert_nowhere(case: Case, ended: subprocess.CompletedProcess[str]) -> None:
    """Hold that nothing that was written, said or recorded holds the password."""
    for stream in (ended.stdout, ended.stderr):
        assert traces(stream.encode(), case.password) == [], stream
    paths = [path for path in case.folder.rglob("*") if path.is_file()]
    for path in paths:
        assert traces(path.read_bytes(), case.password) == [], path
    with case.connect() as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = to_regnamespace('runbook')"
        ).fetchall()
        rows = [
            row
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
        ]
        assert bool(rows) == bool(tables) and traces(repr(rows).encode(), case.password) == []


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server on TCP that wants passwords, with a template of the sample."""
    with server_with_sample(password="of nobody here") as server:
        yield server


@pytest.fixture
def case(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A database and a role of the test's own, with the password of its kind."""
    folder = tmp_path / "work"
    folder.mkdir()
    password = PASSWORDS[request.param]
    made = Case(server=server, folder=folder, role="canary_operator", password=password)
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template".encode())
        connection.execute(f"DROP ROLE IF EXISTS {made.role}".encode())
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
                sql.Identifier(made.role), sql.Literal(password)
            )
        )
    yield made


def combinations() -> Iterator[tuple[str, Callable[[Case], str], Run]]:
    """Yield every way to give a password with every run, the kinds of passwords in turn."""
    kinds = list(PASSWORDS)
    n = 0
    for form in FORMS:
        for run in RUNS:
            kind = kinds[n % len(kinds)]
            n += 1
            if kind == "harmless" and run is shouted:
                kind = "punctuated"  # a word alone cannot be known for a password
            if form is service and kind in ("non-ascii", "punctuated"):
                kind = "with an at"  # a service file has no way to write every character
            yield kind, form, run
        n += 1


COMBINATIONS = list(combinations())

ONE_IN = 6
"""One in so many of them runs in every suite, each run and each form at least once; `make soak`
runs the others."""


def parameters() -> Iterator[ParameterSet]:
    """Yield the combinations as parameters of the test."""
    for n, (kind, form, run) in enumerate(COMBINATIONS):
        kept = n % ONE_IN == 0
        yield pytest.param(
            kind,
            form,
            run,
            marks=() if kept else pytest.mark.soak,
            id=f"{run.__name__}-{form.__name__}-{kind}",
        )


@pytest.mark.parametrize(("case", "form", "run"), list(parameters()), indirect=["case"])
def test_the_password_is_nowhere(case: Case, form: Callable[[Case], str], run: Run) -> None:
    assert_nowhere(case, run(case, form(case)))


def test_there_are_enough_combinations_and_the_search_can_find() -> None:
    kept = [one for one in parameters() if not one.marks]
    used = Counter(part for one in kept for part in one.values)
    assert all(used[part] for part in (*PASSWORDS, *FORMS, *RUNS))
    for kind, password in PASSWORDS.items():
        url = f"postgresql://u:{quote(password, safe='')}@h/d"
        assert traces(url.encode(), password), kind
        if kind != "harmless":
            for before in ("", "u", "uu"):
                code = base64.b64encode(f"{before}{password}".encode())
                assert traces(code, password), (kind, before)
            assert traces(password.encode().hex().encode(), password)
