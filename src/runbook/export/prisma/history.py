"""Prisma's history: what its folder says was run, what the database says, and the row that is
added with the change.

Prisma runs each migration whose name is not in `_prisma_migrations`, and takes one for edited
whose checksum is not that of its file; the application's start runs `prisma migrate deploy`. So
the row must come and go with the change, in the same transaction. Checked against Prisma 6.17.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.errors import BlockedError, RefusedError
from runbook.export.prisma.folder import Folder, Migration, read_folder
from runbook.export.prisma.migration import migration_sql
from runbook.facts import Act, Catalog
from runbook.plan import Plan
from runbook.plan.ledger import json
from runbook.spec import Spec
from runbook.trust.holding import hold_code
from runbook.trust.owner_code import EVERY_ACT, owner_code_query
from runbook.trust.preflight import require_trusted
from runbook.vocabulary import Check

TABLE = "_prisma_migrations"

LOCK = 72707369
"""The advisory lock that Prisma's schema engine holds while it migrates (its PostgreSQL
connector; Prisma docs, Advisory locking)."""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the history."""

    name: str
    checksum: str
    is_finished: bool


@dataclass(frozen=True, kw_only=True)
class History:
    """Where the database keeps the history, and what is in it, taken back ones left out."""

    schema: str
    entries: tuple[Entry, ...]
    may_write: bool


@dataclass(frozen=True, kw_only=True)
class Prisma:
    """A migration of a Prisma folder, to be recorded in the database's history as it stands."""

    history: History
    migration: Migration
    ledger_schema: str

    @classmethod
    def of(
        cls, connection: Connection, spec: Spec, catalog: Catalog, plan: Plan, path: Path
    ) -> "Prisma":
        """Return the folder's migration that does what the plan does.

        Raises `RefusedError` where there is none, or the folder's history is not the database's;
        `UsageError` for a folder that is none of Prisma's.
        """
        folder = read_folder(path)
        history = read_history(connection, spec.schema_, plan.ledger_schema)
        migration = _own(folder, history, migration_sql(spec, catalog, plan))
        differing = next(_differences(folder, history, migration), None)
        if differing:
            raise RefusedError(
                f"The history in {path} is not that of the database: {differing}.",
                "Nothing was changed. `prisma migrate status` shows both; make them agree first.",
            )
        return cls(history=history, migration=migration, ledger_schema=plan.ledger_schema)

    @property
    def said(self) -> str:
        """What will be recorded, in words."""
        return (
            f"{self.migration.name} is recorded as run in {self.history.schema}.{TABLE}, with the "
            f"change; SHA-256 of its file: {self.migration.checksum}"
        )

    def record(self, run_id: str) -> str:
        """Return the statement that records the migration as run, to be executed with the change.

        It raises an error where Prisma is at work, or has been since the history was read.
        """
        known = [[one.name, one.checksum] for one in self.history.entries]
        return sql.render(
            _RECORD,
            table=sql.name(self.history.schema, TABLE),
            code=sql.raw(
                owner_code_query([(self.history.schema, TABLE)], ledger_schema=self.ledger_schema)
            ),
            lock=sql.value(LOCK),
            known=json(sorted(known)),
            id=sql.value(run_id),
            checksum=sql.value(self.migration.checksum),
            name=sql.value(self.migration.name),
        )

    def check(self) -> Check:
        """Return the check that the history has the migration."""
        return history_check(self.history.schema, self.migration)


def recorded_check(
    connection: Connection, spec: Spec, catalog: Catalog, plan: Plan, path: Path
) -> Check | None:
    """Return the check that the history has the migration of a plan that was applied before, or
    None where the folder has it no more (its migrations were squashed). Raises `RefusedError` where
    the database has no history."""
    folder = read_folder(path)
    history = read_history(connection, spec.schema_, plan.ledger_schema)
    same = _same(folder, migration_sql(spec, catalog, plan))
    return history_check(history.schema, same[-1]) if same else None


def history_check(schema: str, migration: Migration) -> Check:
    """Return the check that a migration is recorded as Prisma would have recorded it."""
    return Check(
        id="prisma-history",
        title=f"Prisma's history has {migration.name}, with its file's checksum: `migrate deploy` "
        "will not run it again",
        sql=sql.render(
            "SELECT coalesce(jsonb_agg(checksum), '[]') FROM {table}\n"
            "WHERE migration_name = {name} AND finished_at IS NOT NULL AND rolled_back_at IS NULL",
            table=sql.name(schema, TABLE),
            name=sql.value(migration.name),
        ),
        expected=[migration.checksum],
    )


def read_history(connection: Connection, schema: str, ledger_schema: str) -> History:
    """Read the history: the table's schema's, or the one that there is elsewhere. Raises
    `RefusedError` where there is none, or more than one that it may be."""
    found = [name for (name,) in connection.execute(_SCHEMAS, [TABLE]).fetchall()]
    if schema not in found and len(found) != 1:
        raise RefusedError(
            f"The database has no table {TABLE} that this role may read."
            if not found
            else f"Table {TABLE} is in schemas {', '.join(found)}, and not in {schema}.",
            "Nothing was changed. Without --prisma-dir the run records nothing of Prisma's; a "
            "database that Prisma shall manage is first given a baseline (`prisma migrate "
            "resolve --applied`).",
        )
    where = schema if schema in found else found[0]
    table = sql.name(where, TABLE)
    _refuse_code(connection, where, ledger_schema)
    rows = connection.execute(sql.render(_ENTRIES, table=table).encode()).fetchall()
    may_write = connection.execute(
        "SELECT has_table_privilege(%s::regclass, 'INSERT')", [sql.spelled(where, TABLE)]
    ).fetchone()
    return History(
        schema=where,
        entries=tuple(
            Entry(name=name, checksum=checksum, is_finished=is_finished)
            for name, checksum, is_finished in rows
        ),
        may_write=bool(may_write and may_write[0]),
    )


def _refuse_code(connection: Connection, schema: str, ledger_schema: str) -> None:
    """Raise `BlockedError` where reading or writing the history would run code of a less privileged
    role: it is a table like any other."""
    require_trusted(
        connection,
        [(schema, TABLE)],
        acts=frozenset({Act.READ, Act.WRITE}),
        ledger_schema=ledger_schema,
        trusted=False,
    )


def forget(connection: Connection, run_id: str, ledger_schema: str) -> tuple[str, ...]:
    """Take the rows of a run out of every history of the database; return their migrations'
    names. A history with code of a less privileged role was never written to, and is left alone."""
    found = [name for (name,) in connection.execute(_SCHEMAS, [TABLE]).fetchall()]
    names: list[str] = []
    for schema in found:
        try:
            hold_code(connection, [(schema, TABLE)], ledger_schema=ledger_schema, acts=EVERY_ACT)
        except BlockedError:
            continue
        statement = sql.render(_FORGET, table=sql.name(schema, TABLE), id=sql.value(run_id))
        names += [name for (name,) in connection.execute(statement.encode()).fetchall()]
    return tuple(names)


def _own(folder: Folder, history: History, text: str) -> Migration:
    """Return the folder's migration that does what the plan does: the newest whose text it is."""
    same = _same(folder, text)
    if same:
        return same[-1]
    known = {one.name for one in history.entries}
    pending = [one for one in folder.migrations if one.name not in known]
    if not pending:
        raise _without_migration(folder)
    raise RefusedError(
        f"Migration {pending[-1].name} in {folder.path} does not do what this plan does: it was "
        "edited, or exported for another table.",
        "Nothing was changed. Remove its folder and take back the edits of the schema, then run "
        "`runbook export prisma` against a database as this one is.",
    )


def _same(folder: Folder, text: str) -> list[Migration]:
    """Return the migrations of a text, whatever their line ends."""
    return [one for one in folder.migrations if _normal(one.content) == _normal(text.encode())]


def _without_migration(folder: Folder) -> RefusedError:
    return RefusedError(
        f"{folder.migrations_path} holds no migration of this plan.",
        "Nothing was changed. Write it with `runbook export prisma`, commit it to the "
        "application, then run again.",
    )


def _normal(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").strip()


def _differences(folder: Folder, history: History, own: Migration) -> Iterator[str]:
    """Yield how folder and database differ, beyond the migration that is to be recorded."""
    files = {one.name: one for one in folder.migrations}
    if not history.may_write:
        yield f"this role may not write {history.schema}.{TABLE}"
    for entry in history.entries:
        if not entry.is_finished:
            yield f"migration {entry.name} failed there, or is under way"
        elif entry.name == own.name:
            yield f"the database has {own.name} already, but not what it does"
        elif entry.name not in files:
            yield f"the database has {entry.name}, and the folder has not"
        elif entry.checksum not in files[entry.name].checksums:
            yield f"{entry.name} was edited since it was run"
        elif entry.name > own.name:
            yield f"{entry.name}, which comes after {own.name}, was run already"
    known = {entry.name for entry in history.entries}
    for name in files:
        if name not in known and name != own.name:
            yield f"the folder has {name}, and the database has not"


_SCHEMAS = """\
SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1"""

_ENTRIES: LiteralString = """\
SELECT migration_name, checksum, finished_at IS NOT NULL FROM {table}
WHERE rolled_back_at IS NULL ORDER BY migration_name COLLATE "C", started_at"""

_FORGET: LiteralString = "DELETE FROM {table} WHERE id = {id} RETURNING migration_name"

_RECORD: LiteralString = """\
DO $prisma$
BEGIN
    LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
    SET LOCAL jit = off;
    IF EXISTS ({code}) THEN
        RAISE EXCEPTION 'the history of Prisma has code of another role by now'
            USING HINT = 'It would run with your rights.';
    END IF;
    IF NOT pg_try_advisory_xact_lock({lock}) THEN
        RAISE EXCEPTION 'prisma migrate is at work on this database'
            USING HINT = 'Run again when it is done.';
    END IF;
    IF (SELECT coalesce(jsonb_agg(jsonb_build_array(migration_name, checksum)
                                  ORDER BY migration_name COLLATE "C", checksum), '[]')
        FROM {table} WHERE rolled_back_at IS NULL) IS DISTINCT FROM {known} THEN
        RAISE EXCEPTION 'the history of Prisma has changed since it was looked at'
            USING HINT = 'Run again.';
    END IF;
    INSERT INTO {table} (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
    VALUES ({id}, {checksum}, {name}, now(), clock_timestamp(), 1);
END
$prisma$"""
