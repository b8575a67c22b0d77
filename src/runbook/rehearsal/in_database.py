"""A copy in a scratch database of the same server: the whole schema by pg_dump, and the rows."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from runbook import sql
from runbook.errors import BlockedError, RefusedError
from runbook.plan import Options, build_plan
from runbook.rehearsal.copy import (
    PREFIX,
    Copy,
    Scratch,
    claim,
    is_abandoned,
    scratch_name,
    unlimited,
)
from runbook.rehearsal.dump import Dump
from runbook.rehearsal.rows import copy_rows
from runbook.run.drift import differences
from runbook.trust.owner_code import read_owner_code
from runbook.trust.roles import is_trusted
from runbook.trust.session import open_session

Connection = psycopg.Connection[Any]


@contextmanager
def copied(wanted: Scratch) -> Iterator[Copy]:
    """Yield a copy in a database of its own, and drop that afterwards."""
    with unlimited(wanted.connect) as holder, ExitStack() as looking:
        snapshot = looking.enter_context(_without_code(wanted))
        # Claims are seen within one database alone, so each looks after its own copies.
        own = f"{_oid(holder)}_"
        name = scratch_name(own)
        conninfo = make_conninfo(wanted.source.conninfo, dbname=name)
        claim(holder, name)
        _drop_abandoned(holder, f"{PREFIX}{own}")
        _create(holder, name)
        try:
            where = f"database {name} of the same server"
            copy = fill(
                wanted,
                Filled(conninfo=conninfo, where=where, keeps_owners=True),
                snapshot=snapshot,
            )
            looking.close()
            yield copy
        finally:
            _drop(holder, name)


@contextmanager
def _without_code(wanted: Scratch) -> Iterator[str]:
    """Yield the snapshot in which nothing was found that would run somebody's code where the
    database is made anew. What is dumped of that snapshot is what was looked at."""
    with unlimited(wanted.connect) as connection, connection.transaction():
        connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if not wanted.trust_owner_code:
            _require_no_code(connection, wanted)
        row = connection.execute(b"SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield str(row[0])


def _require_no_code(connection: Connection, wanted: Scratch) -> None:
    """Raise `BlockedError` where to make the database anew would run somebody's code: a foreign
    role's function in an aggregate's first value, say, or in a partition's CHECK, or a domain's
    constraint for a value that stands in the text of a view."""
    schema = wanted.catalog.ledger_schema
    names = connection.execute(_TABLES.encode()).fetchall()
    code = read_owner_code(connection, names, ledger_schema=schema, every_type=True)
    found = [str(one) for one in code if one.kind not in {"view", "rule", "trigger", "policy"}]
    query = sql.render(_FUNCTIONS, trusted=is_trusted("role", schema))
    found += [
        f"function {name} (role {owner})" for name, owner in connection.execute(query.encode())
    ]
    if found:
        raise BlockedError(
            f"The database has code of less privileged roles, {len(found)} in all: {found[0]}. To "
            f"make a copy of all of it would run some with the rights of "
            f"{wanted.catalog.server.user!r}.",
            "Nothing was changed. Rehearse with --scratch embedded, where that role is nobody; or "
            "pass --trust-owner-code.",
        )


_TABLES = """\
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.oid >= 16384"""

_FUNCTIONS = """\
SELECT p.oid::regprocedure::text, role.rolname::text
FROM pg_proc p JOIN pg_roles role ON role.oid = p.proowner
WHERE p.oid >= 16384 AND p.prorettype <> 'trigger'::regtype AND NOT ({trusted}) ORDER BY 1"""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """An empty database that is to be filled."""

    conninfo: str
    where: str
    """In words."""
    keeps_owners: bool
    """Whether the roles of the original are there."""

    def connect(self) -> Connection:
        """Return a new connection to it."""
        return open_session(self.conninfo, application="runbook rehearse")


def fill(wanted: Scratch, into: Filled, *, snapshot: str = "") -> Copy:
    """Copy schema and rows into an empty database; the schema as an exported snapshot has it, where
    one is given.

    Where triggers and foreign keys can be held back while the rows come in, everything is made
    first; else those come after the rows, and a foreign key to rows that are not there is left out.
    """
    dump = Dump(
        source=wanted.source.conninfo,
        target=into.conninfo,
        server=wanted.catalog.server,
        ledger_schema=wanted.catalog.ledger_schema,
        keeps_owners=into.keeps_owners,
        snapshot=snapshot,
    )
    with unlimited(into.connect) as connection:
        wanted.tell("copying the schema")
        failed = dump.restore("pre-data")
        _cut_off(connection)
        quiet = _can_be_quiet(connection)
        if quiet:
            failed += dump.restore("post-data")
        wanted.tell(f"copying {wanted.rows or wanted.total:,} rows")
        rows = _rows(connection, wanted, failed, quiet=quiet)
        if not quiet:
            failed += dump.restore("post-data")
        connection.execute(b"ANALYZE")
        lacks = _lacks(connection, wanted)
    return Copy(
        where=into.where,
        connect=into.connect,
        spec=wanted.spec,
        ledger_schema=wanted.catalog.ledger_schema,
        rows=rows,
        lacks=(*lacks, *(f"pg_restore: {one}" for one in failed)),
    )


def _rows(connection: Connection, wanted: Scratch, failed: list[str], *, quiet: bool) -> int:
    """Copy the rows. Raises `RefusedError` where the table did not come over."""
    try:
        with unlimited(wanted.connect) as source, connection.transaction():
            if quiet:
                connection.execute(b"SET LOCAL session_replication_role = replica")
            return copy_rows(source, connection, wanted)
    except psycopg.Error as error:
        why = failed[0] if failed else str(error.diag.message_primary or error)
        raise RefusedError(
            f"The table {wanted.spec.schema_}.{wanted.spec.table} could not be copied: {why}.",
            "Nothing was changed. Rehearse with --scratch schema, which needs no dump.",
        ) from error


def _lacks(connection: Connection, wanted: Scratch) -> tuple[str, ...]:
    """Return how the copied table differs from the original, by the facts that a plan rests on."""
    plan = build_plan(wanted.spec, wanted.catalog, Options(mode="atomic"))
    found = differences(connection, plan)
    return (*found.wrong, *found.new)


def _cut_off(connection: Connection) -> None:
    """Cut the copy off from other servers: what it writes there would be written for real."""
    for (server,) in connection.execute(b"SELECT srvname::text FROM pg_foreign_server").fetchall():
        connection.execute(b"SET client_min_messages = warning")
        connection.execute(sql.render("DROP SERVER {name} CASCADE", name=server).encode())


def _can_be_quiet(connection: Connection) -> bool:
    """Return whether this role may hold triggers back (docs, 20.11, session_replication_role)."""
    query = "SELECT has_parameter_privilege('session_replication_role', 'SET')"
    row = connection.execute(query.encode()).fetchone()
    return bool(row and row[0])


def _create(connection: Connection, name: str) -> None:
    """Create an empty database with the encoding and the locale of this one."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_LOCALE)
        (found,) = cursor.fetchall()
    try:
        connection.execute(create_database(name, found).encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise RefusedError(
            f"The scratch database cannot be made: {error.diag.message_primary}.",
            "Nothing was changed. Give the role CREATEDB, or rehearse with --scratch schema or "
            "--scratch embedded.",
        ) from error


def create_database(name: str, locale: Mapping[str, Any]) -> str:
    """Return the statement that makes an empty database with a locale, as `pg_database` has it."""
    options = [
        sql.compose("ENCODING {it}", it=sql.value(locale["encoding"])),
        sql.compose("LC_COLLATE {it}", it=sql.value(locale["datcollate"])),
        sql.compose("LC_CTYPE {it}", it=sql.value(locale["datctype"])),
        sql.compose("LOCALE_PROVIDER {it}", it=sql.raw(_PROVIDERS[locale["provider"]])),
    ]
    if locale["provider"] == "i":
        options.append(sql.compose("ICU_LOCALE {it}", it=sql.value(locale["locale"])))
    elif locale["provider"] == "b":
        options.append(sql.compose("BUILTIN_LOCALE {it}", it=sql.value(locale["locale"])))
    return sql.render(
        "CREATE DATABASE {name} TEMPLATE template0 {options}",
        name=name,
        options=sql.join(" ", options),
    )


def _drop(connection: Connection, name: str) -> None:
    text = sql.render("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)
    connection.execute(text.encode())


def _oid(connection: Connection) -> int:
    """Return the OID of the database."""
    row = connection.execute(b"SELECT oid FROM pg_database WHERE datname = current_database()")
    found = row.fetchone()
    assert found is not None
    return int(found[0])


def _drop_abandoned(connection: Connection, prefix: str) -> None:
    """Drop what rehearsals of this database that were killed have left behind."""
    for (name,) in connection.execute(_DATABASES, [prefix]).fetchall():
        if is_abandoned(connection, name):
            _drop(connection, name)


_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

_LOCALE = """\
SELECT pg_encoding_to_char(encoding) AS encoding, datcollate, datctype,
       datlocprovider::text AS provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale
FROM pg_database d WHERE datname = current_database()"""

_DATABASES = """\
SELECT datname::text FROM pg_database
WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'USAGE')"""
