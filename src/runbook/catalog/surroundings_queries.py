"""The SQL that reads who is at work, and the server's state. Every value is bound."""

STATE = """
WITH tree (oid) AS (
    SELECT %(oid)s::oid UNION SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass)
)
SELECT current_setting('synchronous_standby_names') <> ''
           AND current_setting('synchronous_commit') NOT IN ('off', 'local') AS waits_for_replicas,
       -- A partitioned table has no rows, and no age, itself.
       coalesce((SELECT max(age(c.relfrozenxid)) FROM pg_class c WHERE c.relfrozenxid <> '0'
                 AND c.oid IN (SELECT oid FROM tree)), 0) AS table,
       least(current_setting('autovacuum_freeze_max_age')::int, (
           SELECT option_value::int FROM pg_class c, pg_options_to_table(c.reloptions)
           WHERE c.oid = %(oid)s AND option_name = 'autovacuum_freeze_max_age')) AS freeze_max,
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS database,
       CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
           THEN current_setting('data_directory') END AS data_directory"""

ACTIVITY = """
WITH tree (oid) AS (
    SELECT %(oid)s::oid UNION SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass)
)
SELECT a.pid, a.usename::text AS user, a.application_name AS application, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float AS transaction_s,
       CASE WHEN a.state LIKE 'idle in transaction%%'
           THEN extract(epoch FROM clock_timestamp() - a.state_change)::float END AS idle_s,
       coalesce(l.modes, '{}') AS locks,
       a.backend_type = 'autovacuum worker' AND a.query LIKE '%%(to prevent wraparound)%%'
           AS is_old_vacuum
FROM pg_stat_activity a
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT regexp_replace(mode, 'Lock$', '')) AS modes FROM pg_locks
    WHERE pid = a.pid AND locktype = 'relation' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation IN (SELECT oid FROM tree)) AS l ON true
WHERE a.pid <> pg_backend_pid() AND a.datname = current_database()
  AND (a.xact_start IS NOT NULL OR l.modes IS NOT NULL)
  -- A parallel worker is its leader's.
  AND a.leader_pid IS NULL
ORDER BY a.xact_start NULLS LAST, a.pid"""

PREPARED = """
WITH tree (oid) AS (
    SELECT %(oid)s::oid UNION SELECT relid::oid FROM pg_partition_tree(%(oid)s::oid::regclass)
)
SELECT p.gid, p.owner::text AS owner,
       extract(epoch FROM clock_timestamp() - p.prepared)::float AS age_s,
       -- It has no process, and is known by the lock on its own number.
       EXISTS (SELECT FROM pg_locks x JOIN pg_locks l USING (virtualtransaction)
               WHERE x.pid IS NULL AND x.locktype = 'transactionid'
                 AND x.transactionid = p.transaction
                 AND l.pid IS NULL AND l.locktype = 'relation'
                 AND l.relation IN (SELECT oid FROM tree)) AS on_table
FROM pg_prepared_xacts p WHERE p.database = current_database() ORDER BY p.prepared, p.gid"""

# Of a replica the server sends WAL itself; where it is one, there is no position to compare with.
REPLICAS = """
SELECT coalesce(nullif(application_name, ''), client_addr::text, pid::text) AS name,
       sync_state IN ('sync', 'quorum') AS is_synchronous,
       CASE WHEN NOT pg_is_in_recovery()
           THEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END AS lag_bytes,
       extract(epoch FROM replay_lag)::float AS lag_s
FROM pg_stat_replication WHERE state IS NOT NULL ORDER BY 1"""

SLOTS = """
SELECT slot_name::text AS name, active,
       CASE WHEN NOT pg_is_in_recovery()
           THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END AS retained_bytes,
       wal_status
FROM pg_replication_slots WHERE NOT temporary ORDER BY 1"""

TIMEOUTS = """
SELECT name, reset_val::int AS ms FROM pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
               'idle_session_timeout', 'transaction_timeout') AND reset_val <> '0'
ORDER BY name"""
