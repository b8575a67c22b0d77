DO $progress$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('runbook/ledger', 0));
    IF to_regclass({runs_name}) IS NULL THEN
        CREATE TABLE {runs} (
            run_id uuid PRIMARY KEY,
            migration text NOT NULL,
            table_schema text NOT NULL,
            table_before text NOT NULL,
            table_oid oid NOT NULL,
            spec_sha256 text NOT NULL,
            plan_sha256 text NOT NULL,
            plan jsonb NOT NULL,
            tool_version text NOT NULL,
            phase text NOT NULL,
            whole jsonb,
            started_by text NOT NULL DEFAULT session_user,
            client text,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            ended_at timestamptz,
            outcome text
        );
        -- One unfinished run a table.
        CREATE UNIQUE INDEX ON {runs} (table_oid) WHERE ended_at IS NULL;
        CREATE TABLE {spans} (
            run_id uuid NOT NULL REFERENCES {runs} ON DELETE CASCADE,
            span integer NOT NULL,
            table_oid oid NOT NULL,
            filenode oid NOT NULL,
            first_block bigint NOT NULL,
            next_block bigint NOT NULL,
            end_block bigint NOT NULL,
            batches bigint NOT NULL DEFAULT 0,
            rows bigint NOT NULL DEFAULT 0,
            hashes_before numeric NOT NULL DEFAULT 0,
            hashes_after numeric NOT NULL DEFAULT 0,
            worked_ms double precision NOT NULL DEFAULT 0,
            PRIMARY KEY (run_id, span)
        ) WITH (fillfactor = 50);
        COMMENT ON TABLE {runs} IS
            'How far migration-runbook''s online runs came: one row a run, kept when it has ended.';
        COMMENT ON TABLE {spans} IS
            'Block ranges of a backfill: all before next_block is done and proved.';
    END IF;
END
$progress$
