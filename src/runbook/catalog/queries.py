"""The SQL that reads a catalog. Every value is bound; nothing here takes more than ACCESS SHARE."""

SERVER = """\
SELECT current_setting('server_version_num')::int AS version_number,
       current_setting('server_version') AS server_version,
       current_database()::text AS name, current_user::text AS user,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS read_only,
       current_setting('is_superuser')::bool AS is_superuser,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_others,
       has_function_privilege('pg_control_system()', 'EXECUTE') AS may_identify"""

SYSTEM_IDENTIFIER = "SELECT system_identifier::text AS system_identifier FROM pg_control_system()"

TABLE = """\
SELECT c.oid::bigint AS oid, c.relkind AS kind, c.relpersistence AS persistence,
       pg_get_userbyid(c.relowner)::text AS owner,
       (SELECT min(inhparent::regclass::text) FROM pg_inherits WHERE inhrelid = c.oid) AS parent,
       c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
           AS has_children,
       -- A partitioned table holds nothing itself.
       (SELECT sum(pg_table_size(oid)) FROM (SELECT c.oid UNION SELECT relid
            FROM pg_partition_tree(c.oid)) AS t (oid))::bigint AS heap_bytes,
       (SELECT sum(pg_indexes_size(oid)) FROM (SELECT c.oid UNION SELECT relid
            FROM pg_partition_tree(c.oid)) AS t (oid))::bigint AS index_bytes,
       greatest(c.reltuples, 0)::bigint AS row_estimate,
       ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = c.oid AND ev_type <> '1'
             ORDER BY rulename) AS rules,
       EXISTS (SELECT FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
               WHERE p.pubupdate AND t.schemaname = n.nspname AND t.tablename = c.relname)
           AND c.relreplident <> 'f' AND i.columns IS NULL
           AS lacks_replica_identity,
       EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid,
               LATERAL (SELECT ARRAY(SELECT m[1]::int2 FROM regexp_matches(
                   r.prqual::text, ':varattno (\\d+)', 'g') AS m) AS filter) AS f
               WHERE r.prrelid = c.oid AND p.pubupdate AND (
                   CASE WHEN c.relreplident = 'f' THEN r.prattrs IS NOT NULL
                   ELSE NOT i.columns <@ r.prattrs::int2[] OR NOT f.filter <@ i.columns END))
           OR EXISTS (SELECT FROM pg_publication_tables t
               JOIN pg_publication p ON p.pubname = t.pubname
               WHERE p.pubupdate AND t.schemaname = n.nspname AND t.tablename = c.relname
                 AND c.relreplident = 'f' AND to_jsonb(p) ->> 'pubgencols' = 'n'
                 AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid
                     AND attgenerated <> '' AND NOT attisdropped))
           AS is_published_in_part,
       EXISTS (SELECT FROM pg_publication_tables t
               JOIN pg_namespace m ON m.nspname = t.schemaname
               JOIN pg_class k ON k.relnamespace = m.oid AND k.relname = t.tablename
               WHERE k.oid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)))
           AS published,
       c.relrowsecurity AS row_security, row_security_active(c.oid) AS row_security_active,
       c.reloftype <> 0 AS is_typed,
       (SELECT max(relnatts) FROM pg_class WHERE oid IN (SELECT c.oid UNION SELECT relid
            FROM pg_partition_tree(c.oid)))::int AS attributes,
       ARRAY(SELECT DISTINCT coalesce(a.attname::text, 'an expression')
             FROM pg_partitioned_table p CROSS JOIN unnest(p.partattrs::int2[]) AS k (attnum)
             LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.attnum
             WHERE p.partrelid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))
             ORDER BY 1) AS partition_keys,
       ARRAY(
           WITH RECURSIVE used (type) AS (
               -- Its row type, and whatever type is made of it.
               SELECT c.reltype
               UNION
               SELECT coalesce(k.reltype, d.objid) FROM used
               JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = used.type
               LEFT JOIN pg_class k ON d.classid = 'pg_class'::regclass AND k.oid = d.objid
               WHERE d.classid = 'pg_type'::regclass OR k.relkind = 'c'
           )
           SELECT format('%%s.%%I', k.oid::regclass, a.attname) FROM used
           JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = used.type
               AND d.classid = 'pg_class'::regclass
           JOIN pg_class k ON k.oid = d.objid AND k.relkind IN ('r', 'p', 'm')
           JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum = d.objsubid
           ORDER BY 1) AS row_type_users
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
-- What identifies its rows to subscribers.
LEFT JOIN LATERAL (
    SELECT indkey::int2[] AS columns FROM pg_index WHERE indrelid = c.oid AND CASE c.relreplident
        WHEN 'd' THEN indisprimary AND indimmediate WHEN 'i' THEN indisreplident END) AS i ON true
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'f', 'v', 'm')"""

COLUMNS = """\
WITH RECURSIVE base (attnum, type, below) AS (
    -- Down through domains and arrays to the type whose hash function would be used; `below` is
    -- whether only domains were passed.
    SELECT attnum, atttypid, true FROM pg_attribute
    WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT b.attnum, coalesce(nullif(t.typbasetype, 0), t.typelem), b.below AND t.typtype = 'd'
    FROM base b JOIN pg_type t ON t.oid = b.type
    WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0)
), method (type, name) AS (
    -- As GetDefaultOpClass finds it in PostgreSQL's source: of the type itself, of one that it is
    -- the same bytes as, or of every type of its kind.
    SELECT DISTINCT t.oid, m.amname::text FROM pg_type t
    CROSS JOIN pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
    WHERE t.oid IN (SELECT type FROM base) AND o.opcdefault AND (
        o.opcintype IN (t.oid, CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN 'anyarray'
            ELSE CASE t.typtype WHEN 'e' THEN 'anyenum' WHEN 'r' THEN 'anyrange'
                WHEN 'm' THEN 'anymultirange' WHEN 'c' THEN 'record' END END::regtype)
        OR EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid AND casttarget = o.opcintype
                   AND castmethod = 'b' AND castcontext = 'i'))
), indexed (attnum, methods) AS (
    -- A method that has one for arrays needs one for what is in them.
    SELECT d.attnum, array_agg(m.name ORDER BY m.name) FROM base d
    JOIN pg_type t ON t.oid = d.type AND t.typtype <> 'd' JOIN method m ON m.type = t.oid
    WHERE d.below AND (t.typcategory <> 'A' OR t.typelem = 0
        OR m.name NOT IN ('btree', 'hash', 'gin')
        OR EXISTS (
            SELECT FROM base e JOIN pg_type et ON et.oid = e.type AND et.typtype <> 'd'
                AND (et.typcategory <> 'A' OR et.typelem = 0)
            JOIN method em ON em.type = et.oid
            WHERE e.attnum = d.attnum
              AND em.name = CASE m.name WHEN 'gin' THEN 'btree' ELSE m.name END))
    GROUP BY d.attnum
), exact (attnum, exact_hash, folds) AS (
    -- Types whose equality is identity of what is stored. Others (numeric's scale, jsonb's
    -- numbers, float's -0, interval's units, char's blanks) are hashed as text. The bounds of an
    -- array count for themselves; where its type's name does not show that it is one, it is text.
    SELECT b.attnum, bool_and(
        t.typtype IN ('e', 'd') OR t.typcategory = 'A' OR t.oid = ANY (ARRAY[
            'bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', '"char"',
            'bytea', 'uuid', 'date', 'time', 'timestamp', 'timestamptz']::regtype[])),
        -- hashint8extended takes 64 bits by way of 32: 1 and 2^32 are the same to it.
        bool_or(t.oid = ANY (ARRAY['int8', 'time', 'timestamp', 'timestamptz']::regtype[]))
    FROM base b JOIN pg_type t ON t.oid = b.type GROUP BY 1
), read_by_code (type) AS (
    -- What reading a literal as it may run code for: a domain, a composite type, and what is made
    -- of one.
    SELECT oid FROM pg_type WHERE typtype IN ('d', 'c') AND oid >= 16384
    UNION
    SELECT made.oid FROM read_by_code JOIN (
        SELECT typelem, oid FROM pg_type WHERE typelem <> 0
        UNION ALL
        SELECT rngsubtype, unnest(ARRAY[rngtypid, rngmultitypid]) FROM pg_range
    ) AS made (part, oid) ON made.part = read_by_code.type
)
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS not_null, pg_get_expr(d.adbin, d.adrelid) AS default,
       EXISTS (SELECT FROM regexp_matches(
                   d.adbin::text, '\\{CONST :consttype (\\d+)', 'g') AS one
               WHERE one[1]::oid IN (SELECT type FROM read_by_code)) AS default_is_read_by_code,
       a.attgenerated::text AS generated, a.attidentity::text AS identity,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = a.atttypid
             ORDER BY e.enumsortorder) AS labels,
       exact.exact_hash AND coalesce(l.collisdeterministic, true)
           AND (t.typcategory <> 'A' OR format_type(a.atttypid, a.atttypmod) LIKE '%%[]')
           AS exact_hash,
       CASE WHEN exact.folds THEN t.typsend::text ELSE '' END AS sent_by,
       k.oid = 'bpchar'::regtype AS is_padded, t.typlen < 0 AS is_variable,
       coalesce(indexed.methods, '{}') AS index_methods,
       -- A type of initdb's has an OID below 16384 (docs, System Catalog Initial Data).
       CASE WHEN k.oid >= 16384 THEN jsonb_build_object(
           'name', ARRAY[kn.nspname, k.typname],
           'kind', CASE WHEN k.typcategory = 'A' AND k.typelem <> 0 THEN 'a' ELSE k.typtype END,
           'printed_by', (SELECT ARRAY[n.nspname, p.proname] FROM pg_proc p
               JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = k.typoutput),
           'equal_by', CASE WHEN k.typtype = 'b' AND k.typelem = 0 THEN (
               SELECT ARRAY[n.nspname, p.proname] FROM pg_opclass c
               JOIN pg_am m ON m.oid = c.opcmethod
               JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = k.oid
                   AND o.amoprighttype = k.oid
                   AND o.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
               JOIN pg_operator q ON q.oid = o.amopopr
               JOIN pg_proc p ON p.oid = q.oprcode JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE c.opcdefault AND c.opcintype = k.oid AND m.amname IN ('btree', 'hash')
               ORDER BY m.amname LIMIT 1) END,
           'like_by', CASE WHEN k.typtype = 'b' AND k.typelem = 0 THEN (
               SELECT ARRAY[n.nspname, p.proname] FROM pg_operator q
               JOIN pg_proc p ON p.oid = q.oprcode JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE q.oprname = '~~' AND q.oprleft = k.oid AND q.oprright = k.oid
                 AND q.oprnamespace = k.typnamespace LIMIT 1) END,
           'is_read_by_code', k.oid IN (SELECT type FROM read_by_code)) END AS foreign
FROM pg_attribute a
JOIN exact ON exact.attnum = a.attnum
LEFT JOIN indexed ON indexed.attnum = a.attnum
JOIN pg_type t ON t.oid = a.atttypid
-- The type below its domains, by which values are printed and compared.
JOIN base b ON b.attnum = a.attnum AND b.below
JOIN pg_type k ON k.oid = b.type AND k.typtype <> 'd'
JOIN pg_namespace kn ON kn.oid = k.typnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = %(oid)s
ORDER BY a.attnum"""

CONSTRAINTS = """\
SELECT conname::text AS name, contype::text AS kind, pg_get_constraintdef(oid) AS definition,
       convalidated AS validated
FROM pg_constraint WHERE conrelid = %(oid)s AND contype <> 't' ORDER BY conname"""

INDEXES = """\
SELECT c.relname::text AS name, pg_get_indexdef(c.oid) AS definition,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       i.indisvalid AND i.indisready AS valid,
       EXISTS (SELECT FROM pg_constraint k
               WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
           AS of_constraint
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(oid)s ORDER BY c.relname"""

SEQUENCES = """\
SELECT s.relname::text AS name, a.attname::text AS column
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refobjid = %(oid)s AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
ORDER BY s.relname"""

PARTITIONS = """\
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, t.level,
       (SELECT ARRAY[m.nspname, p.relname] FROM pg_class p
        JOIN pg_namespace m ON m.oid = p.relnamespace WHERE p.oid = t.parentrelid) AS parent,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', x.relname, 'definition', concat(
            pg_get_indexdef(x.oid),
            (SELECT ' PARTITION OF ' || inhparent::regclass FROM pg_inherits
             WHERE inhrelid = x.oid),
            CASE WHEN NOT (i.indisvalid AND i.indisready) THEN ' INVALID' END))
            ORDER BY x.relname COLLATE "C"), '[]')
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid) AS indexes,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', conname, 'definition',
            pg_get_constraintdef(oid)) ORDER BY conname COLLATE "C"), '[]')
        FROM pg_constraint WHERE conrelid = c.oid AND contype <> 't') AS constraints,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', tgname, 'definition', concat(
            pg_get_triggerdef(oid), CASE tgenabled WHEN 'D' THEN ' DISABLED'
                WHEN 'R' THEN ' ENABLED FOR REPLICAS' WHEN 'A' THEN ' ENABLED ALWAYS' END))
            ORDER BY tgname COLLATE "C"), '[]')
        FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal) AS triggers,
       ARRAY(SELECT rulename::text FROM pg_rewrite
             WHERE ev_class = c.oid AND ev_type <> '1' AND ev_enabled <> 'D'
             ORDER BY rulename COLLATE "C") AS rules
FROM pg_partition_tree(%(oid)s::oid::regclass) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.level > 0 ORDER BY t.level, 1, 2"""

GRANTS = """\
SELECT CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee)::text END AS role, k.column,
       array_agg(x.privilege_type ORDER BY x.privilege_type) AS rights,
       x.is_grantable AS grantable
FROM pg_class c,
LATERAL (SELECT NULL::text AS column, c.relacl AS acl
         UNION ALL
         SELECT attname::text, attacl FROM pg_attribute
         WHERE attrelid = c.oid AND attacl IS NOT NULL AND NOT attisdropped) AS k,
LATERAL aclexplode(k.acl) AS x
WHERE c.oid = %(oid)s AND x.grantee <> c.relowner
GROUP BY 1, 2, 4 ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 4"""

UPDATE_TRIGGERS = """\
SELECT g.tgname::text AS name, pg_get_triggerdef(g.oid) AS definition,
       g.tgrelid::regclass::text AS table
FROM pg_trigger g
WHERE g.tgrelid IN (SELECT %(oid)s::oid UNION SELECT relid::oid
                    FROM pg_partition_tree(%(oid)s::oid::regclass))
  AND g.tgparentid = 0 AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0
ORDER BY 1, 2"""

BEFORE_TRIGGERS = """\
SELECT g.tgname::text AS name, pg_get_triggerdef(g.oid) AS definition,
       g.tgrelid::regclass::text AS table
FROM pg_trigger g
WHERE g.tgrelid IN (SELECT %(oid)s::oid UNION SELECT relid::oid
                    FROM pg_partition_tree(%(oid)s::oid::regclass))
  AND g.tgparentid = 0 AND NOT g.tgisinternal AND g.tgenabled <> 'D'
  AND g.tgtype & 3 = 3 AND g.tgtype & 20 <> 0
ORDER BY 1, 2"""

RELATIONS = """\
SELECT c.relname::text AS name,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
           WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'S' THEN 'sequence'
           WHEN 'c' THEN 'composite type' ELSE 'index' END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s
  AND (c.relname = ANY (%(names)s) OR starts_with(c.relname, %(prefix)s))"""

RESERVED = """\
WITH tree (oid, schema) AS (
    SELECT oid, relnamespace FROM pg_class
    WHERE oid = %(oid)s OR oid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass))
)
SELECT 'function' AS kind, n.nspname::text AS schema, p.proname::text AS name
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.pronargs = 0 AND p.pronamespace = (SELECT schema FROM tree WHERE oid = %(oid)s)
  AND starts_with(p.proname::text, 'runbook_')
UNION
SELECT 'trigger', n.nspname, g.tgname
FROM pg_trigger g JOIN tree ON tree.oid = g.tgrelid JOIN pg_namespace n ON n.oid = tree.schema
WHERE starts_with(g.tgname::text, '~runbook_')
UNION
-- Indexes of partitions take the names that PostgreSQL makes.
SELECT 'relation', n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relnamespace IN (SELECT schema FROM tree WHERE oid <> %(oid)s)
  AND c.relname ~ '_idx[0-9]*$'"""

TYPES = """\
SELECT t.typname::text AS name, t.typtype::text AS kind,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
             ORDER BY e.enumsortorder) AS labels,
       pg_has_role(t.typowner, 'USAGE') AS owned
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %(schema)s AND t.typname = ANY (%(names)s)"""

PRIVILEGES = """\
SELECT missing FROM (
    SELECT c.oid::regclass::text AS tab, c.oid AS oid, c.relowner AS owner, n.oid AS schema,
           n.nspname AS schema_name, l.oid AS ledger, l.nspname AS ledger_name, t.oid AS entries,
           r.oid AS rollbacks
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_namespace l ON l.nspname = %(ledger)s
    LEFT JOIN pg_class t ON t.relnamespace = l.oid AND t.relname = 'ledger'
    LEFT JOIN pg_class r ON r.relnamespace = l.oid AND r.relname = 'rollback'
    WHERE c.oid = %(oid)s
) AS f, LATERAL (VALUES
    (NOT pg_has_role(owner, 'USAGE'),
     format('ownership of %%s (owner: %%s)', tab, pg_get_userbyid(owner))),
    (NOT has_schema_privilege(schema, 'USAGE'), format('USAGE on schema %%I', schema_name)),
    (NOT has_table_privilege(oid, 'SELECT'), format('SELECT on %%s', tab)),
    (NOT has_table_privilege(oid, 'UPDATE'), format('UPDATE on %%s', tab)),
    (NOT has_schema_privilege(schema, 'CREATE'), format('CREATE on schema %%I', schema_name)),
    (ledger IS NULL AND NOT has_database_privilege(current_database(), 'CREATE'),
     format('CREATE on database %%I (for the ledger schema %%I)',
            current_database(), %(ledger)s::text)),
    (ledger IS NOT NULL AND entries IS NULL AND NOT (
        has_schema_privilege(ledger, 'CREATE') AND has_schema_privilege(ledger, 'USAGE')),
     format('CREATE and USAGE on schema %%s', quote_ident(ledger_name))),
    (entries IS NOT NULL AND NOT (
        has_schema_privilege(ledger, 'USAGE') AND has_table_privilege(entries, 'SELECT')
        AND has_table_privilege(entries, 'INSERT')
        AND coalesce(has_table_privilege(rollbacks, 'SELECT'), true)),
     format('USAGE on schema %%s, SELECT and INSERT on its table ledger, SELECT on rollback',
            quote_ident(ledger_name)))
) AS privilege (lacking, missing)
WHERE lacking"""

LOCK_HOLDER = """\
SELECT format('pid %%s, user %%s, application %%L, for %%s', a.pid, a.usename, a.application_name,
              date_trunc('second', clock_timestamp() - a.xact_start)) AS who, a.pid
FROM pg_locks l JOIN pg_stat_activity a USING (pid), hashtextextended(%s, 0) AS key
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = (key >> 32) & 4294967295 AND l.objid::bigint = key & 4294967295"""
