"""Which roles gain nothing by code that runs as the connected one.

`SET ROLE` is no wall: code run under it may RESET ROLE. So both roles count, the one that connected
and the one that it acts as.
"""

from runbook import sql

_MAY = """\
NOT EXISTS (
    SELECT FROM pg_roles me WHERE me.rolname IN (session_user, current_user) AND NOT (
        {role}.oid = me.oid OR {role}.rolsuper
        -- It may act as the connected role by itself.
        OR pg_has_role({role}.oid, me.oid, 'MEMBER')
        OR {role}.rolcreaterole AND NOT me.rolsuper
            AND current_setting('server_version_num')::int < 160000
        -- The connected role is a member of it, and nothing more: it can and sees no more.
        OR NOT me.rolsuper AND pg_has_role(me.oid, {role}.oid, 'MEMBER')
            AND me.rolcreaterole <= {role}.rolcreaterole
            AND me.rolcreatedb <= {role}.rolcreatedb
            AND me.rolreplication <= {role}.rolreplication
            AND me.rolbypassrls <= {role}.rolbypassrls
            AND NOT EXISTS (
                SELECT FROM pg_roles other WHERE other.oid <> me.oid
                AND pg_has_role(me.oid, other.oid, 'MEMBER')
                AND NOT pg_has_role({role}.oid, other.oid, 'MEMBER'))
            AND NOT EXISTS (
                SELECT FROM (
                    -- What a run leaves in the application's schema does not count: types, a view
                    -- that the role may read, trigger functions.
                    SELECT relnamespace, relowner, relacl, relkind IN ('r', 'p', 'm', 'f')
                        OR relkind = 'v' AND NOT has_table_privilege({role}.oid, oid, 'SELECT')
                    FROM pg_class
                    UNION ALL
                    SELECT c.relnamespace, c.relowner, a.attacl, false
                    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                    WHERE a.attacl IS NOT NULL
                    UNION ALL
                    SELECT pronamespace, proowner, proacl, prorettype <> 'trigger'::regtype
                    FROM pg_proc
                    UNION ALL SELECT typnamespace, typowner, typacl, false FROM pg_type
                    UNION ALL SELECT oid, nspowner, nspacl, true FROM pg_namespace
                    UNION ALL SELECT 0, srvowner, srvacl, true FROM pg_foreign_server
                    UNION ALL SELECT 0, fdwowner, fdwacl, true FROM pg_foreign_data_wrapper
                    UNION ALL SELECT 0, lanowner, lanacl, true FROM pg_language
                    UNION ALL SELECT 0, lomowner, lomacl, true FROM pg_largeobject_metadata
                    UNION ALL SELECT 0, spcowner, spcacl, true FROM pg_tablespace
                    UNION ALL SELECT 0, datdba, NULL, true FROM pg_database
                ) AS own (place, owner, acl, counts)
                WHERE (own.counts AND own.owner = me.oid OR EXISTS (
                    SELECT FROM aclexplode(own.acl) AS mine WHERE mine.grantee = me.oid
                        AND own.owner <> {role}.oid
                        AND NOT EXISTS (
                            SELECT FROM aclexplode(own.acl) AS its
                            WHERE its.privilege_type = mine.privilege_type
                              AND its.grantee IN (0, {role}.oid))))
                AND own.place NOT IN (SELECT oid FROM pg_namespace WHERE nspname = {ledger}))
    ))"""


def owner_of_schema(schema: str) -> sql.Composable:
    """Return the role that owns a schema, a row of `pg_namespace` by that alias: of one that
    belongs to whoever owns the database (docs, 22.5, pg_database_owner), that role."""
    return sql.compose(
        "CASE WHEN {schema}.nspowner = to_regrole('pg_database_owner') THEN (SELECT datdba FROM"
        " pg_database WHERE datname = current_database()) ELSE {schema}.nspowner END",
        schema=schema,
    )


def is_trusted(role: str, ledger_schema: str) -> sql.Composable:
    """Return the predicate that the owner of code, a row of `pg_roles` by that alias, gains nothing
    where the code runs with the connected role's rights.

    That is so for the connected role itself, for a superuser, for whoever may act as the connected
    role, and for a role that it is a member of, as long as it has no further attribute, membership,
    object or right on one. The ledger, which it made itself, does not count, nor does what it may
    do with the database as a whole, to make that.
    """
    return sql.compose(_MAY, role=role, ledger=sql.value(ledger_schema))
