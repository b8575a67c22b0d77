"""The SQL that finds what depends on a table, or is named after it. Every value is bound.

`RELATED` returns kind, name, detail, enabled and on_table, as `facts.Related` has them. `pattern`
finds the table's name in a text, as a word of its own.
"""

from typing import LiteralString

from runbook import sql

RELATED = r"""
WITH RECURSIVE tree (oid) AS (
    SELECT %(oid)s::oid UNION SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass)
), views (oid, level) AS (
    SELECT DISTINCT r.ev_class, 1 FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND r.ev_class <> %(oid)s
    UNION
    SELECT r.ev_class, 2 FROM views
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = views.oid
        AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> views.oid
    JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
), found (place, kind, name, detail, enabled, on_table) AS (
    SELECT 1, CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END,
           c.oid::regclass::text, pg_get_viewdef(c.oid), true, min(views.level) = 1
    FROM views JOIN pg_class c USING (oid) GROUP BY c.oid, c.relkind
    UNION ALL
    SELECT 2, 'function', p.oid::regprocedure::text, '', true, false
    FROM pg_proc p WHERE p.oid IN (
        SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass
        AND (refclassid = 'pg_class'::regclass AND refobjid = %(oid)s
             OR refclassid = 'pg_type'::regclass
                AND refobjid IN (SELECT reltype FROM pg_class WHERE oid = %(oid)s)))
    UNION ALL
    SELECT 4, 'trigger', g.tgname, pg_get_triggerdef(g.oid), g.tgenabled <> 'D', true
    FROM pg_trigger g
    WHERE g.tgrelid IN (SELECT oid FROM tree) AND g.tgparentid = 0 AND NOT g.tgisinternal
    UNION ALL
    SELECT 5, 'rule', format('%%s on %%s', r.rulename, r.ev_class::regclass),
           pg_get_ruledef(r.oid), r.ev_enabled <> 'D', r.ev_class = %(oid)s
    FROM pg_rewrite r JOIN pg_class k ON k.oid = r.ev_class
    WHERE r.rulename <> '_RETURN' AND (r.ev_class = %(oid)s OR r.oid IN (
        SELECT objid FROM pg_depend WHERE classid = 'pg_rewrite'::regclass
        AND refclassid = 'pg_class'::regclass AND refobjid = %(oid)s))
    UNION ALL
    SELECT 6, 'policy', format('%%s on %%s', p.polname, p.polrelid::regclass),
           concat_ws(' ', 'USING', pg_get_expr(p.polqual, p.polrelid)), true,
           p.polrelid = %(oid)s
    FROM pg_policy p
    WHERE p.polrelid = %(oid)s OR p.oid IN (
        SELECT objid FROM pg_depend WHERE classid = 'pg_policy'::regclass
        AND refclassid = 'pg_class'::regclass AND refobjid = %(oid)s)
    UNION ALL
    SELECT 7, 'publication', p.pubname,
           CASE WHEN p.puballtables THEN 'of all tables' ELSE '' END, true, false
    FROM pg_publication p WHERE p.pubname IN (
        SELECT t.pubname FROM pg_publication_tables t
        JOIN pg_namespace n ON n.nspname = t.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
        WHERE c.oid IN (SELECT oid FROM tree))
    UNION ALL
    SELECT 8, 'subscription', s.subname, '', s.subenabled, false
    FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid
    WHERE r.srrelid IN (SELECT oid FROM tree)
    UNION ALL
    SELECT 9, 'replica identity', CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing'
               ELSE 'index ' || (SELECT indexrelid::regclass::text FROM pg_index
                                 WHERE indrelid = c.oid AND indisreplident) END, '', true, true
    FROM pg_class c WHERE c.oid = %(oid)s AND c.relreplident <> 'd'
    UNION ALL
    SELECT 10, CASE WHEN k.conrelid = %(oid)s THEN 'foreign key from it'
               ELSE 'foreign key to it' END,
           k.conname, format('%%s %%s', k.conrelid::regclass, pg_get_constraintdef(k.oid)), true,
           k.conrelid = %(oid)s
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0 AND %(oid)s IN (k.conrelid, k.confrelid)
    UNION ALL
    SELECT 11, 'inheritance child', i.inhrelid::regclass::text, '', true, true
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent AND c.relkind <> 'p'
    WHERE i.inhparent = %(oid)s
    UNION ALL
    SELECT 12, 'extended statistics', s.stxname, pg_get_statisticsobjdef(s.oid), true, true
    FROM pg_statistic_ext s WHERE s.stxrelid = %(oid)s
    UNION ALL
    SELECT 13, 'default privileges',
           format('%%s in %%s', pg_get_userbyid(d.defaclrole),
                  coalesce(d.defaclnamespace::regnamespace::text, 'every schema')),
           format('%%s: %%s', CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'T' THEN 'types'
                  WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' ELSE 'schemas' END,
                  d.defaclacl::text), true, false
    FROM pg_default_acl d
    WHERE d.defaclnamespace IN (0, (SELECT relnamespace FROM pg_class WHERE oid = %(oid)s))
      AND d.defaclobjtype IN ('r', 'T')
    UNION ALL
    SELECT 14, 'event trigger', e.evtname,
           format('%%s, runs %%s', e.evtevent, e.evtfoid::regproc), e.evtenabled <> 'D', false
    FROM pg_event_trigger e
    WHERE e.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite')
    UNION ALL
    SELECT 15, 'history of a tool', format('%%s.%%s', n.nspname, c.relname), tool, true, false
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN (VALUES ('_prisma_migrations', 'Prisma'), ('alembic_version', 'Alembic'),
                 ('flyway_schema_history', 'Flyway'), ('databasechangelog', 'Liquibase'))
        AS known (relname, tool) USING (relname)
    WHERE c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 16, 'extension', x.extname, 'owns ' || string_agg(
               pg_describe_object(m.classid, m.objid, 0), ', ' ORDER BY m.classid, m.objid),
           true, bool_or(m.classid = 'pg_class'::regclass AND m.objid = %(oid)s)
    FROM pg_depend m JOIN pg_extension x ON x.oid = m.refobjid
    WHERE m.refclassid = 'pg_extension'::regclass AND m.deptype = 'e' AND (m.classid, m.objid) IN (
        SELECT 'pg_class'::regclass::oid, %(oid)s::oid
        UNION
        SELECT refclassid, refobjid FROM pg_depend
        WHERE classid = 'pg_class'::regclass
          AND objid IN (SELECT %(oid)s::oid UNION
                        SELECT indexrelid FROM pg_index WHERE indrelid = %(oid)s)
        UNION
        SELECT 'pg_proc'::regclass::oid, tgfoid FROM pg_trigger WHERE tgrelid = %(oid)s)
    GROUP BY x.extname
    UNION ALL
    SELECT 16, 'comment', CASE WHEN d.objsubid = 0 THEN 'the table' ELSE
               'column ' || (SELECT attname FROM pg_attribute
                             WHERE attrelid = d.objoid AND attnum = d.objsubid) END,
           d.description, true, true
    FROM pg_description d WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %(oid)s
    UNION ALL
    -- What none of the above knows: a dependent that nobody thought of is shown all the same.
    SELECT DISTINCT 17, 'other dependent', pg_describe_object(d.classid, d.objid, d.objsubid),
           '', true, false
    FROM pg_depend d
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND d.classid <> ALL (
        ARRAY['pg_rewrite', 'pg_proc', 'pg_trigger', 'pg_policy', 'pg_constraint', 'pg_attrdef',
              'pg_statistic_ext', 'pg_publication_rel', 'pg_class', 'pg_type']::regclass[])
)
SELECT kind, name::text, detail::text, enabled, on_table FROM found ORDER BY place, kind, name"""

ROUTINES = """
SELECT p.oid::regprocedure::text AS name, p.prosrc AS source,
       p.oid IN (SELECT tgfoid FROM pg_trigger
                 WHERE tgrelid IN (SELECT %(oid)s::oid UNION
                                   SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass))
                   AND NOT tgisinternal AND tgenabled <> 'D') AS on_table
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prosqlbody IS NULL
  AND l.lanname NOT IN ('internal', 'c')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                  AND d.objid = p.oid AND d.deptype = 'e')
  AND p.prosrc ~* %(pattern)s
ORDER BY 1"""

STATEMENTS_VIEW = """
SELECT n.nspname::text AS schema FROM pg_extension x
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
    AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = d.objid AND c.relname = 'pg_stat_statements'
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE x.extname = 'pg_stat_statements'"""
"""Where the extension's own view is: one of that name may be anybody's."""

MOST_STATEMENTS = 20
"""How many of them are read, those that are called most often."""


def statements(schema: str) -> sql.Composable:
    """Return the query for the statements that name the table, wherever the extension lives."""
    # Beside bound values a percent sign stands twice, in a name, too.
    view = sql.spelled(schema, "pg_stat_statements").replace("%", "%%")
    return sql.compose(_STATEMENTS, view=sql.raw(view), most=sql.value(MOST_STATEMENTS))


_STATEMENTS: LiteralString = """
SELECT format('%%s calls by %%s', sum(calls), pg_get_userbyid(userid)) AS name, query AS detail
FROM {view}
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query ~* %(pattern)s AND query !~* 'pg_(class|catalog|stat|proc)'
  AND strpos(query, '/* runbook */') = 0
GROUP BY userid, query ORDER BY sum(calls) DESC, query LIMIT {most}"""
