-- The plan's own verification, asked after the commit: what SCHEMA-01 to SCHEMA-05 and the
-- distribution ask for, as a person would type it.

SELECT * FROM llama_logs LIMIT 1;

SELECT tablename FROM pg_tables WHERE tablename IN ('enrichment_logs', 'llama_logs');

SELECT enumlabel FROM pg_enum WHERE enumtypid = '"LlamaLogCategory"'::regtype ORDER BY enumsortorder;

SELECT u.id FROM "User" u JOIN llama_logs l ON l.user_id = u.id LIMIT 1;

SELECT count(*) AS total, count(category) AS with_category,
       count(*) FILTER (WHERE category IS NULL) AS without
FROM llama_logs;

SELECT category, count(*) FROM llama_logs GROUP BY category ORDER BY category;

SELECT indexname FROM pg_indexes WHERE indexname = 'llama_logs_category_createdAt_idx';
