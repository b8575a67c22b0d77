-- What the runbook is measured against: the plan's own SQL, as a person would run it by psql in one
-- transaction. The column is nullable, the index comes first, five UPDATEs classify in order.

ALTER TABLE enrichment_logs RENAME TO llama_logs;

CREATE TYPE "LlamaLogCategory" AS ENUM ('CREATED', 'ENRICHED', 'CORRECTED', 'CACHED', 'FAILED');

ALTER TABLE llama_logs ADD COLUMN category "LlamaLogCategory";

CREATE INDEX "llama_logs_category_createdAt_idx" ON llama_logs (category, created_at);

UPDATE llama_logs SET category = 'CACHED'
WHERE operation LIKE 'cache:%' AND category IS NULL;

UPDATE llama_logs SET category = 'CORRECTED'
WHERE operation = 'admin_correction' AND category IS NULL;

UPDATE llama_logs SET category = 'ENRICHED'
WHERE (operation LIKE 'enrichment:%'
       OR operation LIKE 'check:%'
       OR operation LIKE 'musicbrainz:%'
       OR operation LIKE 'spotify:%'
       OR operation LIKE 'discogs:%'
       OR operation = 'PREVIEW_ENRICHMENT')
  AND category IS NULL;

UPDATE llama_logs SET category = 'FAILED'
WHERE status = 'FAILED' AND category IS NULL;

UPDATE llama_logs SET category = 'CREATED'
WHERE category IS NULL;

ALTER TABLE llama_logs ALTER COLUMN category SET NOT NULL;
