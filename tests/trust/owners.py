"""Owners of a schema, a table or a database who are not to be trusted."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import Cluster, Database

SPEC = """
name = "sorting"
title = "Sorting"
schema = "app"
table = "tickets"

[[operation]]
op = "create_enum"
name = "kind"
labels = ["open", "named", "odd", "other"]

[[operation]]
op = "classify"
column = "kind"
type = "kind"
otherwise = "other"
expect_otherwise = 1000000
[[operation.rule]]
label = "open"
when = { column = "status", equals = ["open", "new"] }
[[operation.rule]]
label = "named"
when = [{ column = "name", like = "n 1%" }, { column = "name", equals = "n 2" }]
[[operation.rule]]
label = "odd"
when = { all = [{ column = "note", is_null = true }, { column = "size", equals = [1, 3, 5] }] }

[[operation]]
op = "create_index"
name = "issues_kind_idx"
columns = ["kind", "id"]

[[operation]]
op = "rename_table"
to = "issues"
"""

TABLE = (
    "CREATE TYPE app.status AS ENUM ('new', 'open', 'done')",
    "CREATE TABLE app.tickets (id bigserial PRIMARY KEY, status app.status NOT NULL,"
    " name varchar(100), note text, size integer CHECK (size >= 0), at timestamptz DEFAULT now(),"
    " several app.status[], amount numeric(10, 2))",
    "INSERT INTO app.tickets (status, name, note, size, several, amount) SELECT"
    " (ARRAY['new', 'open', 'done', 'done', 'done'])[1 + i % 5]::app.status, 'n ' || i,"
    " CASE WHEN i % 3 = 0 THEN 'note' END, i % 7, ARRAY['new', 'done']::app.status[], i / 3.0"
    " FROM generate_series(1, 300) i",
    "CREATE INDEX ON app.tickets (name)",
    "CREATE INDEX ON app.tickets (size) WHERE size > 2",
)


NOCASE = (
    "CREATE TYPE app.nocase",
    *(
        f"CREATE FUNCTION app.{name} LANGUAGE internal IMMUTABLE STRICT AS '{internal}'"
        for name, internal in (
            ("nocase_in(cstring) RETURNS app.nocase", "textin"),
            ("nocase_out(app.nocase) RETURNS cstring", "textout"),
            ("nocase_eq(app.nocase, app.nocase) RETURNS boolean", "texteq"),
            ("nocase_like(app.nocase, app.nocase) RETURNS boolean", "textlike"),
            ("nocase_hash(app.nocase) RETURNS integer", "hashtext"),
        )
    ),
    "CREATE TYPE app.nocase (INPUT = app.nocase_in, OUTPUT = app.nocase_out, LIKE = text,"
    " COLLATABLE = true)",
    *(
        f"CREATE OPERATOR app.{name} (LEFTARG = app.nocase, RIGHTARG = app.nocase,"
        f" FUNCTION = app.{function})"
        for name, function in (("=", "nocase_eq"), ("~~", "nocase_like"))
    ),
    "CREATE OPERATOR CLASS app.nocase_ops DEFAULT FOR TYPE app.nocase USING hash AS"
    " OPERATOR 1 app.=, FUNCTION 1 app.nocase_hash(app.nocase)",
)
"""A type as an extension makes it in the owner's schema, which a superuser executes: `citext`, say,
which is not on every server."""

DOMAINS = (
    "CREATE DOMAIN app.few AS integer",
    "CREATE DOMAIN app.nick AS app.nocase",
    "CREATE DOMAIN app.nick2 AS app.nick",
    "CREATE TYPE app.pair AS (a app.nick, b text)",
    "CREATE TYPE app.span AS RANGE (SUBTYPE = app.few)",
    "ALTER TABLE app.tickets ADD plain app.nocase, ADD nick app.nick, ADD nick2 app.nick2,"
    " ADD nicks app.nick2[], ADD pair app.pair, ADD pairs app.pair[], ADD span app.span,"
    " ADD spans app.span_multirange",
    "UPDATE app.tickets SET plain = 'n1', nick = 'n2', nick2 = 'n3', nicks = '{n4}',"
    " pair = '(n5,x)', pairs = '{\"(n6,x)\"}', span = '[1,3)', spans = '{[1,4)}'"
    " WHERE id % 2 = 0",
)
"""Columns of domains over that type and over domains, and of what has one in it."""

ON_DOMAINS = {
    "plain": "n1", "nick": "n2", "nick2": "n3", "nicks": "{n4}", "pair": "(n5,x)",
    "pairs": '{"(n6,x)"}', "span": "[1,3)", "spans": "{[1,4)}",
}  # fmt: skip
"""A value of each of these columns, as PostgreSQL prints it."""


def on_domains(columns: Iterable[str] = ON_DOMAINS) -> str:
    """Return the spec with a first rule that compares these columns."""
    when = [f"{{ column = '{name}', equals = '{ON_DOMAINS[name]}' }}" for name in columns]
    when += [f"{{ column = '{name}', like = 'n_' }}" for name in columns if name in _LIKE]
    rule = f'[[operation.rule]]\nlabel = "odd"\nwhen = [{", ".join(when)}]\n'
    return SPEC.replace("[[operation.rule]]", f"{rule}[[operation.rule]]", 1)


_LIKE = {"plain", "nick", "nick2"}


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A database in which a role that is no superuser owns schema `app` and what is in it."""

    database: Database
    owner: str
    folder: Path

    def as_owner(self, *statements: str) -> None:
        """Execute statements as the owner of the schema."""
        with self.database.connect() as connection:
            connection.execute(f"SET ROLE {self.owner}".encode())
            for statement in statements:
                connection.execute(statement.encode())

    def urls(self, role: str = "postgres") -> str:
        """Return the database's URL for a role."""
        return self.database.url.replace("postgres@", f"{role}@")

    def connected_as(self, role: str) -> Database:
        """Return the database as a role connects to it."""
        conninfo = self.database.conninfo.replace("user=postgres", f"user={role}")
        return replace(self.database, conninfo=conninfo)

    def run(
        self, *arguments: str, role: str = "postgres", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the runbook on it."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "RUNBOOK_"))
        }
        return subprocess.run(
            [sys.executable, "-m", "runbook", *arguments],
            cwd=self.folder,
            env=environment | {"DATABASE_URL": self.urls(role)} | more,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@contextmanager
def owned(cluster: Cluster, folder: Path, text: str = SPEC) -> Iterator[Owned]:
    """Yield such a database; role and database go afterwards."""
    database, owner = cluster.make(), f"app_{uuid.uuid4().hex[:10]}"
    database.execute(
        f"CREATE ROLE {owner} LOGIN",
        f"CREATE SCHEMA app AUTHORIZATION {owner}",
    )
    made = Owned(database=database, owner=owner, folder=folder)
    made.as_owner(*TABLE)
    (folder / "sorting.toml").write_text(text, "utf-8")
    try:
        yield made
    finally:
        cluster.drop(database)
        cluster.execute(f"DROP OWNED BY {owner} CASCADE")
        cluster.execute(f"DROP ROLE {owner}")
