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
                SELECT FROM pg_shdepend d JOIN pg_class own ON own.oid = d.objid
                JOIN pg_namespace place ON place.oid = own.relnamespace
                WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = me.oid
                  AND d.deptype IN ('o', 'a') AND d.classid = 'pg_class'::regclass
                  AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND own.relkind IN ('r', 'p', 'v', 'm', 'f')
                  AND place.nspname <> {ledger}
                  AND NOT has_table_privilege({role}.oid, own.oid, 'SELECT'))
    ))"""


def is_trusted(role: str, ledger_schema: str) -> sql.Composable:
    """Return the predicate that the owner of code, a row of `pg_roles` by that alias, gains nothing
    where the code runs with the connected role's rights.

    That is so for the connected role itself, for a superuser, for whoever may act as the connected
    role, and for a role that it is a member of, as long as it has no further attribute, membership
    or table. The ledger's tables, which it made itself, do not count.
    """
    return sql.compose(_MAY, role=role, ledger=sql.value(ledger_schema))
