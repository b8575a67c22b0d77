"""A query that somebody wrote into a file, over relations that may belong to others.

Whoever wrote it is trusted; whoever owns what it reads is not. To parse it may already run code: a
text is compared with a column of a domain. So what it could name is found by the words in it,
before the server sees it: with an empty search path, whatever is not PostgreSQL's own is found by
its schema alone, so that the name of the schema and the object's own stand in the text.
"""

import re
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import BlockedError, UsageError
from runbook.facts import Act
from runbook.trust.holding import holding
from runbook.trust.owner_code import read_owner_code
from runbook.trust.roles import is_trusted, owner_of_schema

_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_BARE = re.compile(r"[^\W\d][\w$]*")
_BY_NUMBERS = re.compile(r'\bu&"', re.IGNORECASE)


def require_trusted_query(
    connection: psycopg.Connection[Any], text: str, *, ledger_schema: str
) -> None:
    """Raise `BlockedError` where a query could run code of a less privileged role, and otherwise
    keep others from adding any to the tables that it reads until the open transaction ends.

    It may read ordinary tables of anybody. Views, functions, operators and types must belong to
    roles that gain nothing, and the schemas in which they are looked for as well. To be called
    first in the transaction that the query runs in, which it makes one that only reads.
    """
    words = _words(text)
    relations = sql.compose(_NAMED, words=sql.values(words))
    find = sql.render(_RELATIONS, relations=relations)
    tables = connection.execute(find.encode()).fetchall()
    for statement in holding(connection, tables, ledger_schema=ledger_schema):
        connection.execute(statement.encode())
    query = sql.render(
        _FOREIGN,
        relations=relations,
        words=sql.values(words),
        trusted=is_trusted("role", ledger_schema),
        schema_owner=owner_of_schema("n"),
    )
    found = connection.execute(query.encode()).fetchall()
    found += [
        (f"{one.kind} {one.object}", one.owner)
        for one in read_owner_code(connection, tables, ledger_schema=ledger_schema)
        if one.runs_by(frozenset({Act.READ})) or one.kind == "domain"
    ]
    if found:
        what, owner = found[0]
        row = connection.execute(b"SELECT current_user::text").fetchone()
        assert row is not None
        raise BlockedError(
            f"The query reads {what}, which role {owner!r} can change: code of that role would run "
            f"with the rights of {row[0]!r}.",
            "Nothing was changed. Have it read an ordinary table, with columns of PostgreSQL's own "
            f"types; or connect there as {owner!r}, whose rights the code has anyway.",
        )
    connection.execute(b"SET TRANSACTION READ ONLY")


def _words(text: str) -> list[str]:
    """Return whatever in a text could be a name, as PostgreSQL would spell it, in order. Raises
    `UsageError` for names written by the numbers of their characters."""
    if _BY_NUMBERS.search(text):
        raise UsageError(
            'The query has a name that is written as U&"…".',
            "Write the name itself: what it reads is found by its name.",
        )
    # A text is looked through as well: it may be SQL, for a function that executes it.
    quoted = [found.replace('""', '"') for found in _QUOTED.findall(text)]
    bare = _BARE.findall(text)
    words = {spelled for word in (*bare, *quoted) for spelled in (word, word.lower())}
    return sorted({word.encode()[:63].decode(errors="ignore") for word in words})


_NAMED = """\
WITH RECURSIVE read (oid) AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND n.nspname = ANY (ARRAY[{words}]::text[]) AND c.relname = ANY (ARRAY[{words}]::text[])
    UNION
    -- Whatever a view reads.
    SELECT d.refobjid FROM read JOIN pg_rewrite w ON w.ev_class = read.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= 16384
)
SELECT oid FROM read"""

_RELATIONS = """\
SELECT n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN ({relations}) ORDER BY 1, 2"""

_FOREIGN = """\
WITH relation AS (
    SELECT c.* FROM pg_class c WHERE c.oid IN ({relations})
), named (said, owner, place) AS (
    -- A table has no code but what is attached to it, and is held; a view can be replaced.
    SELECT format('%s %s', CASE relkind WHEN 'v' THEN 'view' ELSE 'foreign table' END,
                  oid::regclass), relowner, relnamespace
    FROM relation WHERE relkind IN ('v', 'f')
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure), p.proowner, p.pronamespace
    FROM pg_proc p WHERE p.oid >= 16384 AND p.proname = ANY (ARRAY[{words}]::text[])
    UNION ALL
    SELECT format('type %s', format_type(t.oid, NULL)), t.typowner, t.typnamespace
    FROM pg_type t
    WHERE t.oid >= 16384 AND t.typname = ANY (ARRAY[{words}]::text[]) AND NOT EXISTS (
        SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    UNION ALL
    SELECT format('operator %s', o.oid::regoperator), o.oprowner, o.oprnamespace
    FROM pg_operator o WHERE o.oid >= 16384 AND 'operator' = ANY (ARRAY[{words}]::text[])
), foreign_to_it (said, owner) AS (
    SELECT named.said, may.oid
    FROM named JOIN pg_namespace n ON n.oid = named.place,
    LATERAL (SELECT named.owner UNION ALL SELECT {schema_owner}) AS may (oid)
    WHERE n.nspname = ANY (ARRAY[{words}]::text[])
       OR named.said ~ '^(view|foreign)'
    UNION ALL
    -- Who owns a type may give it a cast, which is called unseen.
    SELECT format('column %I of %s, of type %s', a.attname, a.attrelid::regclass,
                  format_type(a.atttypid, NULL)), t.typowner
    FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid AND t.oid >= 16384
)
SELECT f.said, role.rolname::text
FROM foreign_to_it f JOIN pg_roles role ON role.oid = f.owner
WHERE NOT ({trusted}) ORDER BY 1, 2"""
