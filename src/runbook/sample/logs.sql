-- The rows of `enrichment_logs`: of each operation in `runbook.sample_operations` exactly so many.
-- An operation's name alone decides what its rows look like, so that any name may be asked for:
-- with a colon it is a job, PREVIEW… is a preview, …_FAILED fails, all others are done by hand.

WITH wanted AS (
    SELECT key COLLATE "C" AS operation, value::bigint AS rows,
           sum(value::bigint) OVER (ORDER BY key COLLATE "C")::bigint AS last_place,
           sum(value::bigint) OVER ()::bigint AS total
    FROM jsonb_each_text(current_setting('runbook.sample_operations')::jsonb)
),
operations AS (
    SELECT operation, last_place - rows + 1 AS first_place, last_place, total,
           CASE WHEN operation ILIKE '%artist%' THEN 'ARTIST'
                WHEN operation ILIKE '%album%' THEN 'ALBUM'
                WHEN operation ILIKE '%track%' THEN 'TRACK' END AS named_entity,
           position(':' IN operation) > 0 AS is_job,
           starts_with(operation, 'PREVIEW') AS is_preview,
           operation ~ '^(enrichment|discogs):' AS may_fail,
           operation ~ '_FAILED$' AS always_fails
    FROM wanted
),
places AS (
    SELECT operations.*, place,
           is_job AND (hashint8extended(place, 2) & 1023) < 400 AS is_root,
           1 + (hashint8extended(place, 3) & 1)::integer AS steps_back
    FROM operations
    CROSS JOIN LATERAL generate_series(first_place, last_place) AS place
),
-- The hash shuffles the operations over the time; a child takes a root that came shortly before.
queue AS (
    SELECT *, row_number() OVER in_time AS n,
           CASE WHEN is_job AND NOT is_root AND (hashint8extended(place, 4) & 1023) < 220 THEN
               lag(CASE WHEN is_root THEN place END, steps_back) OVER in_time
           END AS parent_place
    FROM places
    WINDOW in_time AS (ORDER BY hashint8extended(place, 1), place)
),
-- Ten bits of a hash each: a chance of 0 to 1023. A child works on what its parent works on.
chances AS (
    SELECT queue.*, coalesce(parent_place, place) AS subject,
           hashint8extended(place, 5) & 1023 AS status_chance,
           (hashint8extended(place, 5) >> 10) & 1023 AS link_chance,
           (hashint8extended(place, 5) >> 20) & 1023 AS entity_chance,
           (hashint8extended(place, 5) >> 30) & 1023 AS source_chance,
           (hashint8extended(place, 5) >> 40) & 1023 AS field_chance,
           (hashint8extended(place, 5) >> 50) & 1023 AS user_chance,
           hashint8extended(place, 6) & 1023 AS error_chance,
           (hashint8extended(place, 6) >> 10) & 1023 AS quality_chance,
           (hashint8extended(place, 6) >> 20) & 1023 AS metadata_chance,
           (hashint8extended(place, 6) >> 30) & 16383 AS effort
    FROM queue
),
discography AS (
    SELECT row_number() OVER (ORDER BY tracks.id) AS number, tracks.id AS track_id,
           tracks.title AS track, albums.id AS album_id, albums.title AS album,
           artists.id AS artist_id, artists.name AS artist
    FROM public.tracks
    JOIN public.albums ON albums.id = tracks.album_id
    JOIN public.artists ON artists.id = albums.artist_id
),
users AS (
    SELECT row_number() OVER (ORDER BY id COLLATE "C") AS number, id FROM public."User"
),
sizes AS (
    SELECT (SELECT count(*) FROM discography) AS tracks, (SELECT count(*) FROM users) AS users
),
-- The inner remainder makes some tracks far more popular than others.
subjects AS (
    SELECT chances.*,
           1 + ((hashint8extended(subject, 7) & 9223372036854775807)
                % (1 + (hashint8extended(subject, 8) & 9223372036854775807) % sizes.tracks)
               ) AS track_number,
           CASE WHEN (NOT is_job AND user_chance < 880) OR user_chance < 70
                THEN 1 + (hashint8extended(place, 9) & 9223372036854775807) % sizes.users
           END AS user_number,
           coalesce(named_entity, (ARRAY['ALBUM', 'ARTIST', 'TRACK'])[1 + entity_chance % 3])
               AS entity,
           link_chance >= 80 AS is_linked,
           CASE WHEN always_fails THEN 'FAILED'
                WHEN is_preview THEN 'PREVIEW'
                WHEN NOT is_job AND status_chance < 940 THEN 'SUCCESS'
                WHEN NOT is_job THEN 'COMPLETED'
                WHEN status_chance < 600 THEN 'SUCCESS'
                WHEN status_chance < 720 THEN 'PARTIAL_SUCCESS'
                WHEN status_chance < 850 THEN 'NO_DATA_AVAILABLE'
                WHEN status_chance < 910 THEN 'SKIPPED'
                WHEN status_chance < 965 THEN 'COMPLETED'
                WHEN status_chance < 1010 AND may_fail THEN 'FAILED'
                WHEN status_chance < 1010 THEN 'SUCCESS'
                WHEN status_chance < 1017 THEN 'IN_PROGRESS'
                ELSE 'PENDING' END AS status
    FROM chances CROSS JOIN sizes
),
stories AS (
    SELECT subjects.*, discography.*, users.id AS user_id,
           status IN ('SUCCESS', 'PARTIAL_SUCCESS', 'COMPLETED') AS is_done,
           CASE entity WHEN 'ARTIST' THEN discography.artist_id
                       WHEN 'ALBUM' THEN discography.album_id
                       ELSE discography.track_id END AS entity_id,
           CASE entity WHEN 'ARTIST' THEN discography.artist
                       WHEN 'ALBUM' THEN discography.artist || ' – ' || discography.album
                       ELSE discography.artist || ' – ' || discography.track END AS described
    FROM subjects
    JOIN discography ON discography.number = subjects.track_number
    LEFT JOIN users ON users.number = subjects.user_number
)
INSERT INTO public.enrichment_logs (
    id, entity_type, entity_id, artist_id, album_id, track_id, operation, sources, status,
    fields_enriched, data_quality_before, data_quality_after, error_message, error_code,
    retry_count, duration_ms, api_call_count, metadata, job_id, triggered_by, created_at, user_id,
    reason, preview_data, parent_job_id, is_root_job
)
SELECT
    (lpad(to_hex(hashint8extended(place, 10)), 16, '0')
     || lpad(to_hex(hashint8extended(place, 11)), 16, '0'))::uuid,
    CASE WHEN is_linked OR is_job THEN entity::public."EnrichmentEntityType" END,
    CASE WHEN is_linked THEN entity_id END,
    CASE WHEN is_linked AND (entity = 'ARTIST' OR entity_chance < 480) THEN artist_id END,
    CASE WHEN is_linked AND (entity = 'ALBUM' OR (entity = 'TRACK' AND entity_chance < 620))
         THEN album_id END,
    CASE WHEN is_linked AND entity = 'TRACK' THEN track_id END,
    operation,
    CASE WHEN status IN ('PENDING', 'SKIPPED') THEN NULL
         WHEN operation LIKE 'discogs:%' THEN ARRAY['DISCOGS']
         WHEN operation LIKE 'SPOTIFY%' THEN ARRAY['SPOTIFY']
         WHEN NOT is_job AND NOT is_preview
             THEN (ARRAY['MANUAL', 'USER'])[1 + source_chance % 2:1 + source_chance % 2]
         WHEN source_chance < 60 THEN '{}'::text[]
         ELSE (ARRAY['MUSICBRAINZ', 'DISCOGS', 'SPOTIFY', 'LASTFM'])
              [1 + source_chance % 2:1 + source_chance % 4] END,
    status::public."EnrichmentStatus",
    CASE WHEN is_done AND entity = 'ARTIST' THEN
             (ARRAY['name', 'musicbrainzId', 'genres', 'biography', 'imageUrl', 'countryCode'])
             [1 + field_chance % 3:1 + field_chance % 5]
         WHEN is_done THEN
             (ARRAY['title', 'musicbrainzId', 'releaseDate', 'genres', 'label', 'coverArtUrl'])
             [1 + field_chance % 3:1 + field_chance % 5]
         WHEN status IN ('FAILED', 'PENDING') THEN NULL
         ELSE '{}'::text[] END,
    CASE WHEN quality_chance < 900
         THEN (ARRAY['LOW', 'LOW', 'MEDIUM', 'HIGH'])[1 + quality_chance % 4]
             ::public."DataQuality" END,
    CASE WHEN quality_chance < 900 AND is_done
         THEN (ARRAY['MEDIUM', 'HIGH', 'HIGH', 'HIGH'])[1 + quality_chance % 4]
             ::public."DataQuality"
         WHEN is_done THEN 'MEDIUM' END,
    CASE WHEN status = 'FAILED' THEN (ARRAY[
             'Upstream answered 503 for "' || described || '" after 3 retries',
             E'EACCES: can\'t write C:\\covers\\%TEMP%\\' || described || '.jpg',
             'Rate limit: 100% of the quota used, retry in 58 s',
             E'Unexpected token \'<\' in JSON at position 0:\n\t<html lang="en">',
             'timeout of 30000 ms exceeded 😞 (' || described || ')'
         ])[1 + error_chance % 5]
         WHEN status = 'NO_DATA_AVAILABLE' AND error_chance < 512
             THEN 'No match above 85% for "' || described || '"' END,
    CASE WHEN status = 'FAILED' THEN (ARRAY[
             'UPSTREAM_503', 'EACCES', 'RATE_LIMITED', 'PARSE_ERROR', 'ETIMEDOUT'
         ])[1 + error_chance % 5] END,
    CASE WHEN status = 'FAILED' THEN 3 WHEN is_job AND error_chance > 960 THEN 1 ELSE 0 END,
    CASE WHEN is_job AND status NOT IN ('PENDING', 'IN_PROGRESS') THEN 120 + effort::integer END,
    CASE WHEN is_job AND status NOT IN ('PENDING', 'SKIPPED')
         THEN 1 + (effort % 6)::integer ELSE 0 END,
    CASE WHEN metadata_chance < 870 THEN jsonb_build_object(
             'query', described,
             'matchScore', round((700 + metadata_chance % 300) / 1000.0, 3),
             'genre', (ARRAY['dream pop', 'post-rock', 'J-ロック', 'électro', 'шансон', NULL])
                      [1 + metadata_chance % 6]
         ) END,
    CASE WHEN is_job THEN 'job-' || lpad(to_hex(hashint8extended(place, 12)), 16, '0') END,
    CASE WHEN parent_place IS NOT NULL THEN 'parent_job'
         WHEN is_job THEN (ARRAY['search', 'scheduled', 'user_action'])[1 + user_chance % 3]
         WHEN user_number IS NOT NULL THEN 'admin_manual' END,
    timestamp '2024-12-09 06:00:00' + interval '1 millisecond' * (
        (n - 1) * 36806400000 / total
        + (hashint8extended(place, 13) & 9223372036854775807) % (1 + 36806400000 / total)
    ),
    user_id,
    CASE WHEN status = 'SKIPPED' THEN 'Enriched less than 30 days ago'
         WHEN operation ILIKE '%correction%' THEN 'Title was "' || track || '", said the listener'
         WHEN NOT is_job AND NOT is_preview AND user_chance % 2 = 0
             THEN 'Added by hand: ' || described END,
    CASE WHEN is_preview THEN jsonb_build_object(
             'current', jsonb_build_object('name', described, 'genres', '[]'::jsonb),
             'proposed', jsonb_build_object('name', described || ' ✨', 'genres',
                                            jsonb_build_array('dream pop', '50% jazz')),
             'sources', jsonb_build_array('MUSICBRAINZ', 'DISCOGS')
         ) END,
    CASE WHEN parent_place IS NOT NULL
         THEN 'job-' || lpad(to_hex(hashint8extended(parent_place, 12)), 16, '0') END,
    is_root
FROM stories
ORDER BY n;
