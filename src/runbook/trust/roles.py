"""Which roles gain nothing by code that runs as the connected one.

`SET ROLE` is no wall: code run under it may RESET ROLE. So both roles count, the one that connected
and the one that it acts as.

What a role has is found in `pg_shdepend`, where PostgreSQL itself notes every object that a role
owns, every list of rights and every policy that names it, of whichever kind: a parameter, a user
mapping, default privileges, a publication and a large object as well as a table.
"""

from runbook import sql

LEDGER_TABLES = ("ledger", "rollback", "online_run", "online_span")
"""The tables that the runbook makes for itself."""

_MAY = """\
NOT EXISTS (
    SELECT FROM pg_roles me, (
        SELECT CASE WHEN current_setting('server_version_num')::int < 160000
            THEN 'MEMBER' ELSE 'SET' END
    ) AS to_set (role) WHERE me.rolname IN (session_user, current_user) AND NOT (
        {role}.oid = me.oid OR {role}.rolsuper
        -- It may act as the connected role by itself. To be a member WITH SET FALSE is not enough.
        OR pg_has_role({role}.oid, me.oid, to_set.role)
        OR {role}.rolcreaterole AND NOT me.rolsuper
            AND current_setting('server_version_num')::int < 160000
        -- The connected role is a member of it, and nothing more: it can and sees no more.
        OR NOT me.rolsuper
            AND (pg_has_role(me.oid, {role}.oid, 'USAGE')
                 OR pg_has_role(me.oid, {role}.oid, to_set.role))
            AND me.rolcreaterole <= {role}.rolcreaterole
            AND me.rolcreatedb <= {role}.rolcreatedb
            AND me.rolreplication <= {role}.rolreplication
            AND me.rolbypassrls <= {role}.rolbypassrls
            AND NOT EXISTS ({memberships})
            AND NOT EXISTS ({settings})
            AND NOT EXISTS ({things})
    ))"""

_MEMBERSHIPS = """
                SELECT FROM pg_roles other WHERE other.oid NOT IN (me.oid, {role}.oid) AND (
                    pg_has_role(me.oid, other.oid, to_set.role)
                        AND NOT pg_has_role({role}.oid, other.oid, to_set.role)
                    OR pg_has_role(me.oid, other.oid, 'USAGE')
                        AND NOT pg_has_role({role}.oid, other.oid, 'USAGE')
                        AND NOT pg_has_role({role}.oid, other.oid, to_set.role)
                    OR pg_has_role(me.oid, other.oid, 'MEMBER WITH ADMIN OPTION')
                        AND NOT pg_has_role({role}.oid, other.oid, 'MEMBER WITH ADMIN OPTION'))"""

_SETTINGS = """
                -- A superuser gave its sessions what only a superuser may set.
                SELECT FROM pg_db_role_setting s, unnest(s.setconfig) AS one (setting)
                JOIN pg_settings known ON known.name = split_part(one.setting, '=', 1)
                WHERE s.setrole = me.oid AND known.context ~ '^superuser'
                  -- What only tells, or only limits, gives nothing.
                  AND known.name !~ '^(log|track|jit|auto_explain|pg_stat_statements)'
                  AND known.name !~ '_(delay|timeout|limit|id|compression)$'"""

_THINGS = """
                SELECT FROM pg_shdepend d
                WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = me.oid
                  AND (d.dbid = 0 OR d.dbid = (
                      SELECT oid FROM pg_database WHERE datname = current_database()))
                  AND NOT ({of_the_ledger})
                  AND CASE d.deptype
                      -- It owns something. What it grants by default of its own is no right.
                      WHEN 'o' THEN d.classid <> 'pg_default_acl'::regclass AND NOT ({left_by_run})
                      WHEN 'a' THEN EXISTS ({rights})
                      WHEN 'r' THEN NOT EXISTS (
                          -- The owner of a table sees all of it.
                          SELECT FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid,
                              unnest(p.polroles || c.relowner) AS one (oid)
                          WHERE p.oid = d.objid AND (
                              NOT p.polpermissive
                              OR pg_has_role({role}.oid, one.oid, 'USAGE')
                              OR pg_has_role({role}.oid, one.oid, to_set.role)))
                      ELSE d.deptype <> 'i' END"""

_OF_THE_LEDGER = """
                      d.classid = 'pg_class'::regclass AND d.objid IN ({tables})
                      -- Who owns a schema may drop what is in it.
                      OR d.classid = 'pg_namespace'::regclass AND EXISTS (
                          SELECT FROM pg_namespace n WHERE n.oid = d.objid AND n.nspname = {ledger})
                      AND NOT EXISTS (
                          SELECT FROM pg_depend within
                          WHERE within.refclassid = d.classid AND within.refobjid = d.objid
                            AND NOT (within.classid = 'pg_class'::regclass
                                     AND within.objid IN ({tables})))"""

_LEDGER_TABLES = """
                          SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                          WHERE n.nspname = {ledger} AND c.relname = ANY (ARRAY[{names}])"""

_LEFT_BY_RUN = """
                      -- A run leaves enums and trigger functions. Only what rests on one could be
                      -- harmed by it: nothing of anybody else's does.
                      (d.classid = 'pg_proc'::regclass AND d.objid IN (
                          SELECT p.oid FROM pg_proc p WHERE p.prorettype = 'trigger'::regtype)
                       OR d.classid = 'pg_type'::regclass AND d.objid IN (
                          SELECT t.oid FROM pg_type t WHERE t.typtype = 'e'))
                      AND NOT EXISTS (
                          SELECT FROM pg_depend on_it WHERE on_it.refclassid = d.classid
                            AND on_it.refobjid IN (d.objid, (
                                SELECT t.typarray FROM pg_type t
                                WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid))
                            AND on_it.deptype <> 'i'
                            AND coalesce((
                                SELECT c.relowner FROM pg_class c WHERE c.oid = CASE on_it.classid
                                    WHEN 'pg_class'::regclass THEN on_it.objid
                                    WHEN 'pg_attrdef'::regclass THEN (
                                        SELECT adrelid FROM pg_attrdef WHERE oid = on_it.objid)
                                    WHEN 'pg_constraint'::regclass THEN (
                                        SELECT conrelid FROM pg_constraint WHERE oid = on_it.objid)
                                    WHEN 'pg_policy'::regclass THEN (
                                        SELECT polrelid FROM pg_policy WHERE oid = on_it.objid)
                                    WHEN 'pg_rewrite'::regclass THEN (
                                        SELECT ev_class FROM pg_rewrite WHERE oid = on_it.objid)
                                    WHEN 'pg_trigger'::regclass THEN (
                                        SELECT tgrelid FROM pg_trigger WHERE oid = on_it.objid)
                                    END
                                UNION ALL
                                SELECT p.proowner FROM pg_proc p
                                WHERE on_it.classid = 'pg_proc'::regclass AND p.oid = on_it.objid
                            ), 0) NOT IN ({role}.oid, me.oid))"""

_RIGHTS = """
                          SELECT FROM ({lists}) AS own (owner, acl), aclexplode(own.acl) AS mine
                          WHERE mine.grantee = me.oid
                            AND NOT pg_has_role({role}.oid, own.owner, 'USAGE')
                            AND NOT pg_has_role({role}.oid, own.owner, to_set.role)
                            -- Rights on the database make the ledger.
                            AND (mine.is_grantable OR d.classid <> 'pg_database'::regclass)
                            AND NOT EXISTS (
                                SELECT FROM aclexplode(own.acl) AS its
                                WHERE its.privilege_type = mine.privilege_type
                                  AND its.is_grantable >= mine.is_grantable
                                  AND (its.grantee = 0
                                       OR pg_has_role({role}.oid, its.grantee, 'USAGE')
                                       OR pg_has_role({role}.oid, its.grantee, to_set.role)))"""

_LISTS = """
                              -- Who has a right on a table has it on each column.
                              SELECT c.relowner, a.attacl || c.relacl
                              FROM pg_class c LEFT JOIN pg_attribute a
                                  ON a.attrelid = c.oid AND a.attnum = nullif(d.objsubid, 0)
                              WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid"""

_CATALOGS = (
    ("pg_proc", "proowner", "proacl"),
    ("pg_type", "typowner", "typacl"),
    ("pg_namespace", "nspowner", "nspacl"),
    ("pg_foreign_server", "srvowner", "srvacl"),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl"),
    ("pg_language", "lanowner", "lanacl"),
    ("pg_tablespace", "spcowner", "spcacl"),
    ("pg_database", "datdba", "datacl"),
    ("pg_default_acl", "defaclrole", "defaclacl"),
)
"""The other catalogs with lists of rights, each with its columns of owner and rights."""

_LIST = """
                              SELECT {owner}, {acl} FROM {catalog}
                              WHERE d.classid = {name}::regclass AND oid = d.objid"""

_ODD_ONES = """
                              SELECT 10::oid, paracl FROM pg_parameter_acl
                              WHERE d.classid = 'pg_parameter_acl'::regclass AND oid = d.objid
                              UNION ALL
                              SELECT lomowner, lomacl FROM pg_largeobject_metadata
                              WHERE d.classid = 'pg_largeobject'::regclass AND oid = d.objid"""
"""A parameter has no owner; a large object is noted under another catalog than its own."""


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
    setting, object or right on one, nor may grant more. The ledger, which it made itself, does not
    count, nor does what it may do with the database as a whole, to make that.
    """
    lists = sql.join(
        "\nUNION ALL",
        [
            sql.compose(_LISTS),
            sql.compose(_ODD_ONES),
            *(
                sql.compose(_LIST, catalog=name, name=sql.value(name), owner=owner, acl=acl)
                for name, owner, acl in _CATALOGS
            ),
        ],
    )
    ledger = sql.value(ledger_schema)
    tables = sql.compose(_LEDGER_TABLES, ledger=ledger, names=sql.values(LEDGER_TABLES))
    things = sql.compose(
        _THINGS,
        role=role,
        of_the_ledger=sql.compose(_OF_THE_LEDGER, ledger=ledger, tables=tables),
        left_by_run=sql.compose(_LEFT_BY_RUN, role=role),
        rights=sql.compose(_RIGHTS, role=role, lists=lists),
    )
    return sql.compose(
        _MAY,
        role=role,
        memberships=sql.compose(_MEMBERSHIPS, role=role),
        settings=sql.compose(_SETTINGS),
        things=things,
    )
