"""Keeping others away: nobody adds code to a table, or puts another one in its place, between the
look and the use."""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import BlockedError
from runbook.facts import Act
from runbook.trust.owner_code import read_owner_code
from runbook.trust.roles import is_trusted, owner_of_schema


def open_to_others(
    connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]], *, ledger_schema: str
) -> tuple[tuple[str, str], ...]:
    """Return those of some tables to which a less privileged role may add code, or in whose place
    it may put another one."""
    query = sql.render(
        _OPEN_TO_OTHERS,
        schemas=sql.values(schema for schema, _ in tables),
        names=sql.values(name for _, name in tables),
        trusted=is_trusted("role", ledger_schema),
        schema_owner=owner_of_schema("place"),
    )
    return tuple(connection.execute(query.encode()).fetchall())


def holding(
    connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]], *, ledger_schema: str
) -> tuple[str, ...]:
    """Return the statements by which the next transaction keeps others from adding code to tables,
    where they might. None of them takes a snapshot but the last one: what comes after sees whatever
    was added until then, even in a transaction of one snapshot.

    Whoever may add code is kept away by SHARE UPDATE EXCLUSIVE, which blocks no reader and no
    writer (docs, 13.3.1): CREATE TRIGGER, CREATE INDEX and CREATE STATISTICS wait for it. A replica
    takes no such lock, nor does a role that may only read: there somebody who is quick may add code
    to an index between this and the query.
    """
    found = open_to_others(connection, tables, ledger_schema=ledger_schema)
    if not found:
        return ()
    asked = sql.render(_MAY_HOLD, tables=sql.values(sql.spelled(*one) for one in found))
    row = connection.execute(asked.encode()).fetchone()
    assert row is not None
    waits, may = row
    held = [one for one in found if sql.spelled(*one) in may]
    if not held:
        return ()
    return (
        *(["SET LOCAL lock_timeout = '5s'"] if waits else []),
        *(
            sql.render("LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE", table=sql.name(*one))
            for one in held
        ),
        hold_names(held),
    )


def hold_names(tables: Sequence[tuple[str, str]]) -> str:
    """Return the statement that keeps the names of tables' schemas, and of the types of their
    columns, until the transaction ends: no lock on a table holds them, and whoever owns a schema
    may put another one in its place.

    Only a superuser can lock rows of PostgreSQL's catalogs; FOR KEY SHARE is what a change of the
    name waits for, and nothing else (docs, 13.3.2). Nobody else gains as much by it; there the
    statement does nothing. Raises `no_data_found` where a table that is locked is not the one of
    that name any more.
    """
    return sql.render(
        _HOLD_NAMES,
        schemas=sql.values(dict.fromkeys(schema for schema, _ in tables)),
        tables=sql.values(sql.spelled(*one) for one in tables),
    )


def hold_code(
    connection: psycopg.Connection[Any],
    tables: Sequence[tuple[str, str]],
    *,
    ledger_schema: str,
    acts: frozenset[Act] = frozenset({Act.READ}),
    known: Collection[str] = (),
) -> None:
    """Keep others from adding code to tables until the open transaction ends, where they might, and
    raise `BlockedError` if some acts would have code run that is not among the `known`.

    To be called first in a transaction that reads or writes rows without a lock that excludes
    everybody. A transaction of one snapshot begins with what `holding` returns, and asks
    `require_known` then. A view that has taken a table's name is code.
    """
    for text in holding(connection, tables, ledger_schema=ledger_schema):
        connection.execute(text.encode())
    require_known(connection, tables, ledger_schema=ledger_schema, acts=acts, known=known)


def require_known(
    connection: psycopg.Connection[Any],
    tables: Sequence[tuple[str, str]],
    *,
    ledger_schema: str,
    acts: frozenset[Act] = frozenset({Act.READ}),
    known: Collection[str] = (),
) -> None:
    """Raise `BlockedError` if some acts on tables would have code run that is not among the
    `known`."""
    for table in open_to_others(connection, tables, ledger_schema=ledger_schema):
        for one in read_owner_code(connection, [table], ledger_schema=ledger_schema):
            if one.runs_by(acts) and str(one) not in known:
                raise BlockedError(
                    f"Code of role {one.owner!r} has come to {'.'.join(table)} since it was looked "
                    f"at: {one}.",
                    "It was not run. Find out who added it and why; `runbook review` shows all "
                    "of it.",
                )


_MAY_HOLD = """\
SELECT current_setting('lock_timeout') = '0', ARRAY(
    SELECT name FROM unnest(ARRAY[{tables}]::text[]) AS name
    JOIN pg_class c ON c.oid = to_regclass(name) AND c.relkind IN ('r', 'p')
    WHERE NOT pg_is_in_recovery() AND has_table_privilege(c.oid, 'UPDATE'))"""

_HOLD_NAMES = """\
DO $hold$
BEGIN
    IF current_setting('transaction_read_only') = 'on'
       OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    PERFORM FROM pg_namespace WHERE nspname = ANY (ARRAY[{schemas}]::text[]) FOR KEY SHARE;
    PERFORM FROM pg_type WHERE oid >= 16384 AND oid IN (
        WITH RECURSIVE used (oid) AS (
            SELECT atttypid FROM pg_attribute
            WHERE attnum > 0 AND attrelid IN (
                SELECT to_regclass(name) FROM unnest(ARRAY[{tables}]::text[]) AS name)
            UNION
            SELECT below.oid FROM used JOIN pg_type t ON t.oid = used.oid,
                LATERAL (VALUES (t.typelem), (t.typbasetype)) AS below (oid)
        )
        SELECT oid FROM used
    ) FOR KEY SHARE;
    IF EXISTS (
        SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'
            AND mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
    ) AND EXISTS (
        SELECT FROM unnest(ARRAY[{tables}]::text[]) AS name WHERE NOT EXISTS (
            SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'
                AND mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
                AND relation = to_regclass(name))) THEN
        RAISE no_data_found USING MESSAGE = 'another table has taken the name meanwhile';
    END IF;
END
$hold$"""

_OPEN_TO_OTHERS = """\
WITH RECURSIVE tree (root, oid) AS (
    SELECT c.oid, c.oid
    FROM unnest(ARRAY[{schemas}]::text[], ARRAY[{names}]::text[]) AS t (schema, name)
    JOIN pg_namespace n ON n.nspname = t.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION
    SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
)
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (
    SELECT tree.root FROM tree JOIN pg_class one ON one.oid = tree.oid
    JOIN pg_namespace place ON place.oid = one.relnamespace, LATERAL (
        SELECT one.relowner
        UNION ALL
        -- Who owns a schema may drop what is in it.
        SELECT {schema_owner}
        UNION ALL
        SELECT grantee FROM aclexplode(one.relacl) WHERE privilege_type = 'TRIGGER'
    ) AS may (oid) LEFT JOIN pg_roles role ON role.oid = may.oid
    WHERE role.oid IS NULL OR NOT ({trusted}))"""
