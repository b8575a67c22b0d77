"""The ledger as an attacker would leave it: owned by somebody else, or carrying code of theirs.

Whoever owns the ledger's schema can drop it, and whoever owns its tables owns what they say and
what runs where they are written. So the ledger is read and written only where it belongs to a role
that gains nothing by that, and is no more than the tables that the runbook makes. Looked for in
PostgreSQL's catalogs, before anything of the ledger is read.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import BlockedError
from runbook.trust.roles import LEDGER_TABLES, is_trusted

TABLES = {
    "ledger": ["run_id", "plan_sha256", "plan"],
    "rollback": ["run_id", "rolled_back_at", "discarded"],
    "online_run": ["run_id", "plan_sha256", "phase"],
    "online_span": ["run_id", "filenode", "next_block"],
}
"""The ledger's tables, each with columns that tell it from another of that name."""

REMEDY = (
    "Connect as the role that the ledger belongs to, name another schema with --ledger-schema, or, "
    "once you know who made it and why, have a superuser take it over or remove what is foreign."
)


def home(ledger_schema: str) -> sql.Composable:
    """Return the expression for where a ledger stands: the OIDs of its database and of its table.

    Both are others once a dump is restored, and with them every OID that the ledger names;
    pg_upgrade and a copy of the files keep them (docs, pg_upgrade, notes).
    """
    return sql.compose(
        "concat((SELECT oid FROM pg_database WHERE datname = current_database()), '/',\n"
        "    to_regclass({ledger})::oid)",
        ledger=sql.named(ledger_schema, "ledger"),
    )


def ledger_problem(connection: psycopg.Connection[Any], ledger_schema: str) -> str:
    """Return why the ledger must not be trusted, in a sentence; '' where it may be, or is not
    there. Reads PostgreSQL's own catalogs alone."""
    query = problems_query(ledger_schema)
    with connection.transaction(force_rollback=True):
        connection.execute(b"SET LOCAL jit = off")
        found = [row[0] for row in connection.execute(query.encode()).fetchall()]
    if not found:
        return ""
    more = f" ({len(found) - 1} more findings)" if found[1:] else ""
    return f"The ledger in schema {ledger_schema} is not the runbook's own: {found[0]}{more}."


def require_own_ledger(connection: psycopg.Connection[Any], ledger_schema: str) -> None:
    """Raise `BlockedError` where the ledger must not be trusted."""
    problem = ledger_problem(connection, ledger_schema)
    if problem:
        raise BlockedError(problem, f"Nothing was changed. {REMEDY}")


def ledger_writers(connection: psycopg.Connection[Any], ledger_schema: str) -> tuple[str, ...]:
    """Return the less privileged roles that may write the ledger's tables, by name, or `PUBLIC`:
    what the ledger says of runs is their word. Reads PostgreSQL's own catalogs alone."""
    query = sql.render(
        _WRITERS,
        schema=sql.value(ledger_schema),
        names=sql.values(TABLES),
        trusted=is_trusted("role", ledger_schema),
    )
    return tuple(row[0] for row in connection.execute(query.encode()).fetchall())


def may_write(writers: Sequence[str]) -> str:
    """Return who may write the ledger, in a few words."""
    shown = [name if name == "PUBLIC" else f"role {name!r}" for name in writers[:_SHOWN]]
    shown += [f"{len(writers) - _SHOWN:,} more"] if writers[_SHOWN:] else []
    *first, last = shown
    return f"{', '.join(first)}{' and ' if first else ''}{last} may write it"


def problems_query(ledger_schema: str) -> str:
    """Return the query behind `ledger_problem`: a finding a row."""
    return sql.render(
        _QUERY,
        schema=sql.value(ledger_schema),
        names=sql.values(LEDGER_TABLES),
        columns=sql.values(
            f"{table}.{column}" for table, columns in TABLES.items() for column in columns
        ),
        trusted=is_trusted("owner", ledger_schema),
        defaults=sql.values(_DEFAULTS),
    )


_SHOWN = 3
"""How many roles are named."""

_WRITERS = """\
WITH granted AS (
    SELECT DISTINCT x.grantee
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, LATERAL (
        SELECT * FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner)))
        UNION ALL
        SELECT x.* FROM pg_attribute a, aclexplode(a.attacl) AS x
        WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL
    ) AS x
    WHERE n.nspname = {schema} AND c.relname = ANY (ARRAY[{names}])
      AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    UNION
    SELECT to_regrole('pg_write_all_data')::oid FROM pg_namespace WHERE nspname = {schema}
), able AS MATERIALIZED (
    SELECT role.* FROM pg_roles role
    WHERE role.rolname !~ '^pg_' AND NOT role.rolsuper AND EXISTS (
        -- A member may act as the role, whatever it inherits.
        SELECT FROM granted WHERE grantee <> 0 AND pg_has_role(role.oid, grantee, 'MEMBER'))
)
SELECT 'PUBLIC' FROM granted WHERE grantee = 0
UNION ALL
(SELECT rolname::text FROM able AS role WHERE NOT ({trusted}) ORDER BY rolname)"""

_DEFAULTS = ("SESSION_USER", "clock_timestamp()", "0")
"""The defaults of the ledger's columns, as PostgreSQL prints them."""

_QUERY = """\
WITH own AS (
    SELECT c.*, format('table %I.%I', n.nspname, c.relname) AS said
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = {schema} AND c.relname = ANY (ARRAY[{names}])
), problem (place, said) AS (
    SELECT 1, format('schema %I belongs to role %s, who could drop it', n.nspname, owner.rolname)
    FROM pg_namespace n JOIN pg_roles owner ON owner.oid = n.nspowner
    WHERE n.nspname = {schema} AND NOT ({trusted})
    UNION ALL
    SELECT 2, format('%s belongs to role %s, who can write into it whatever they like', own.said,
                     owner.rolname)
    FROM own JOIN pg_roles owner ON owner.oid = own.relowner WHERE NOT ({trusted})
    UNION ALL
    SELECT 3, format('%s is no ordinary table', own.said) FROM own
    WHERE own.relkind <> 'r' OR own.relpersistence <> 'p' OR own.relispartition
       OR own.reloftype <> 0
       OR EXISTS (SELECT FROM pg_inherits WHERE own.oid IN (inhrelid, inhparent))
    UNION ALL
    SELECT 4, format('%s has no column %s', own.said, split_part(wanted, '.', 2))
    FROM own, unnest(ARRAY[{columns}]) AS wanted
    WHERE split_part(wanted, '.', 1) = own.relname AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = own.oid AND NOT a.attisdropped
        AND a.attname = split_part(wanted, '.', 2))
    UNION ALL
    SELECT 5, format('%s has the trigger %I', own.said, g.tgname)
    FROM own JOIN pg_trigger g ON g.tgrelid = own.oid AND NOT g.tgisinternal
    UNION ALL
    SELECT 6, format('%s has the rule %I', own.said, r.rulename)
    FROM own JOIN pg_rewrite r ON r.ev_class = own.oid
    UNION ALL
    SELECT 7, format('%s has the policy %I', own.said, p.polname)
    FROM own JOIN pg_policy p ON p.polrelid = own.oid
    UNION ALL
    SELECT 8, format('%s has row-level security', own.said) FROM own
    WHERE own.relrowsecurity OR own.relforcerowsecurity
    UNION ALL
    SELECT 9, format('%s has the constraint %I: %s', own.said, k.conname,
                     pg_get_constraintdef(k.oid))
    FROM own JOIN pg_constraint k ON k.conrelid = own.oid
    WHERE k.contype NOT IN ('p', 'n')
      AND NOT (k.contype = 'f' AND k.confrelid IN (SELECT oid FROM own))
    UNION ALL
    SELECT 10, format('%s has the default %s', own.said, pg_get_expr(d.adbin, d.adrelid))
    FROM own JOIN pg_attrdef d ON d.adrelid = own.oid
    JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum = d.adnum
    WHERE a.attgenerated <> '' OR pg_get_expr(d.adbin, d.adrelid) <> ALL (ARRAY[{defaults}])
    UNION ALL
    SELECT 11, format('%s has the index %s', own.said, pg_get_indexdef(i.indexrelid))
    FROM own JOIN pg_index i ON i.indrelid = own.oid
    WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
      AND pg_get_expr(i.indpred, i.indrelid) <> '(ended_at IS NULL)'
    UNION ALL
    SELECT 12, format('%s has column %I of type %s', own.said, a.attname,
                      format_type(a.atttypid, a.atttypmod))
    FROM own JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE a.atttypid >= 16384
    UNION ALL
    SELECT 13, format('%s has the statistics object %I', own.said, s.stxname)
    FROM own JOIN pg_statistic_ext s ON s.stxrelid = own.oid
)
SELECT said FROM problem ORDER BY place, said"""
