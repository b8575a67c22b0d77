DO $ledger$
BEGIN
    -- Two first runs on different tables must not both make it.
    PERFORM pg_advisory_xact_lock(hashtextextended('runbook/ledger', 0));
    IF to_regnamespace({schema_name}) IS NULL THEN
        CREATE SCHEMA {schema};
    END IF;
    IF to_regclass({ledger_name}) IS NULL THEN
        CREATE TABLE {ledger} (
            run_id uuid PRIMARY KEY,
            migration text NOT NULL,
            table_schema text NOT NULL,
            table_before text NOT NULL,
            table_after text NOT NULL,
            table_oid oid NOT NULL,
            spec_sha256 text NOT NULL,
            plan_sha256 text NOT NULL,
            mode text NOT NULL,
            tool_version text NOT NULL,
            applied_by text NOT NULL DEFAULT session_user,
            client text,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            rows bigint NOT NULL,
            categories jsonb NOT NULL,
            unvalidated jsonb NOT NULL,
            algorithm text,
            fingerprint text,
            hashes text,
            plan jsonb NOT NULL
        );
        COMMENT ON TABLE {ledger} IS
            'What migration-runbook applied to this database: one row a run, never changed.';
        CREATE TABLE {rollback} (
            run_id uuid PRIMARY KEY REFERENCES {ledger},
            rollback_id uuid NOT NULL,
            tool_version text NOT NULL,
            rolled_back_by text NOT NULL DEFAULT session_user,
            client text,
            rolled_back_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            rows bigint NOT NULL,
            fingerprint text NOT NULL,
            discarded bigint NOT NULL
        );
        COMMENT ON TABLE {rollback} IS
            'The runs of the ledger that migration-runbook took back: one row each, never changed.';
    END IF;
    -- Take a transaction number and end it: the next snapshot then counts those that savepoints of
    -- this transaction took before among the ones that ended, which tells their rows from later ones.
    BEGIN
        PERFORM pg_logical_emit_message(true, 'runbook', '');
        RAISE SQLSTATE 'RB000';
    EXCEPTION WHEN SQLSTATE 'RB000' THEN
        NULL;
    END;
END
$ledger$
