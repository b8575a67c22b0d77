-- The floor: what somebody who knows PostgreSQL would write by hand for this one table, in one
-- transaction. The commonest label (psql's variable `label`) comes as a default, which touches the
-- catalog only; the other rows are updated, the index is built last. One scan before and one after
-- prove the data: every column, by two seeds of PostgreSQL's own hash of a record.

LOCK TABLE enrichment_logs IN ACCESS EXCLUSIVE MODE;

SELECT count(*), sum(hash_record_extended(r, 0)::numeric), sum(hash_record_extended(r, 1)::numeric)
FROM (
    SELECT ROW(id, entity_type, entity_id, artist_id, album_id, track_id, operation, sources, status,
        fields_enriched, data_quality_before, data_quality_after, error_message, error_code,
        retry_count, duration_ms, api_call_count, metadata, job_id, triggered_by, created_at, user_id,
        reason, preview_data, parent_job_id, is_root_job) AS r
    FROM enrichment_logs
) AS t;

ALTER TABLE enrichment_logs RENAME TO llama_logs;

CREATE TYPE "LlamaLogCategory" AS ENUM ('CREATED', 'ENRICHED', 'CORRECTED', 'CACHED', 'FAILED');

ALTER TABLE llama_logs ADD COLUMN category "LlamaLogCategory" NOT NULL DEFAULT :'label';

UPDATE llama_logs
SET category = (CASE
    WHEN operation LIKE 'cache:%' THEN 'CACHED'
    WHEN operation = 'admin_correction' THEN 'CORRECTED'
    WHEN operation LIKE 'enrichment:%' OR operation LIKE 'check:%' OR operation LIKE 'musicbrainz:%'
        OR operation LIKE 'spotify:%' OR operation LIKE 'discogs:%'
        OR operation = 'PREVIEW_ENRICHMENT' THEN 'ENRICHED'
    WHEN status = 'FAILED' THEN 'FAILED'
    ELSE 'CREATED' END)::"LlamaLogCategory"
WHERE CASE
    WHEN operation LIKE 'cache:%' THEN 'CACHED'
    WHEN operation = 'admin_correction' THEN 'CORRECTED'
    WHEN operation LIKE 'enrichment:%' OR operation LIKE 'check:%' OR operation LIKE 'musicbrainz:%'
        OR operation LIKE 'spotify:%' OR operation LIKE 'discogs:%'
        OR operation = 'PREVIEW_ENRICHMENT' THEN 'ENRICHED'
    WHEN status = 'FAILED' THEN 'FAILED'
    ELSE 'CREATED' END <> :'label';

ALTER TABLE llama_logs ALTER COLUMN category DROP DEFAULT;

CREATE INDEX "llama_logs_category_createdAt_idx" ON llama_logs (category, created_at);

SELECT category, count(*), sum(hash_record_extended(r, 0)::numeric),
    sum(hash_record_extended(r, 1)::numeric)
FROM (
    SELECT category, ROW(id, entity_type, entity_id, artist_id, album_id, track_id, operation, sources,
        status, fields_enriched, data_quality_before, data_quality_after, error_message, error_code,
        retry_count, duration_ms, api_call_count, metadata, job_id, triggered_by, created_at, user_id,
        reason, preview_data, parent_job_id, is_root_job) AS r
    FROM llama_logs
) AS t GROUP BY category;
