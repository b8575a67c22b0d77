-- Users, artists, albums and tracks, as many as the log rows in `runbook.sample_operations` need.
-- Every value comes from hashint8extended, on which hash partitions rest: it is the same on every
-- version and machine, and, unlike md5, there on a server in FIPS mode too.

INSERT INTO public.artists (id, name, musicbrainz_id, data_quality, created_at)
SELECT (lpad(to_hex(hashint8extended(n, 101)), 16, '0')
        || lpad(to_hex(hashint8extended(n, 102)), 16, '0'))::uuid,
       names[1 + (n - 1) % cardinality(names)]
       || CASE WHEN n > cardinality(names)
               THEN ' ' || suffixes[1 + (hashint8extended(n, 103) & 7)] ELSE '' END
       || CASE WHEN n > cardinality(names) * 8
               THEN ' ' || 1 + n / (cardinality(names) * 8) ELSE '' END,
       CASE WHEN (hashint8extended(n, 104) & 7) > 1
            THEN (lpad(to_hex(hashint8extended(n, 105)), 16, '0')
                  || lpad(to_hex(hashint8extended(n, 106)), 16, '0'))::uuid END,
       (ARRAY['LOW', 'MEDIUM', 'HIGH', NULL])[1 + (hashint8extended(n, 107) & 3)]
           ::public."DataQuality",
       timestamp '2024-10-01 08:00:00' + (hashint8extended(n, 108) & 1073741823)
           * interval '1 millisecond'
FROM (
    SELECT ARRAY[
               'Björk', 'Sigur Rós', '東京事変', 'Motörhead', 'Café Tacvba', 'Мумий Тролль', 'فيروز',
               'Ólafur Arnalds', '椎名林檎', 'Hüsker Dü', '방탄소년단', 'Guns N'' Roses', 'AC/DC',
               'Beyoncé', 'Múm', 'Nils Frahm', 'Godspeed You! Black Emperor', 'Røyksopp',
               'Émilie Simon', '🎧 lo-fi 猫'
           ] AS names,
           ARRAY[
               'Trio', 'Ensemble', 'Orchestra', 'Quartet', 'Remixed', 'Live', 'Tribute', 'Kollektiv'
           ] AS suffixes,
           sum(value::bigint) AS logs
    FROM jsonb_each_text(current_setting('runbook.sample_operations')::jsonb)
) AS wanted
CROSS JOIN LATERAL generate_series(
    1, least(greatest(coalesce(logs, 0)::bigint / 16, 24), 10000)
) AS n;

INSERT INTO public.albums (id, title, artist_id, release_date, data_quality, created_at)
SELECT (lpad(to_hex(hashint8extended(n, 201)), 16, '0')
        || lpad(to_hex(hashint8extended(n, 202)), 16, '0'))::uuid,
       (ARRAY[
           'Homogenic', 'Ágætis byrjun', '教育', 'Ænima', 'Ace of Spades', '無罪モラトリアム',
           'Vespertine', 'Takk…', 'Re', 'Zen Arcade', 'Заря', 'Map of the Soul: 7', 'Melody A.M.',
           '100% Live', 'Finally We Are No One', 'Appetite for Destruction'
       ])[1 + (hashint8extended(n, 203) & 15)]
       || CASE WHEN issue > 1 THEN ' (vol. ' || issue || ')' ELSE '' END,
       artist_id,
       CASE WHEN (hashint8extended(n, 204) & 15) > 0
            THEN date '1968-01-01' + (hashint8extended(n, 205) & 16383)::integer END,
       (ARRAY['LOW', 'MEDIUM', 'HIGH', NULL])[1 + (hashint8extended(n, 206) & 3)]
           ::public."DataQuality",
       timestamp '2024-11-01 08:00:00' + (hashint8extended(n, 207) & 1073741823)
           * interval '1 millisecond'
FROM (
    SELECT artists.id AS artist_id, issue, row_number() OVER (ORDER BY artists.id, issue) AS n
    FROM public.artists
    CROSS JOIN LATERAL generate_series(
        1, 1 + (hashint8extended(('x' || substr(artists.id::text, 1, 8))::bit(32)::bigint, 208) & 3)
    ) AS issue
) AS numbered;

INSERT INTO public.tracks (id, title, album_id, track_number, duration_ms, created_at)
SELECT (lpad(to_hex(hashint8extended(n, 301)), 16, '0')
        || lpad(to_hex(hashint8extended(n, 302)), 16, '0'))::uuid,
       (ARRAY[
           'Jóga', 'Svefn-g-englar', '群青日和', 'Hyperballad', 'Hoppípolla', '丸の内サディスティック',
           'Ingrediente', 'Владивосток 2000', 'Don''t Panic', 'Bachelorette', 'Says', 'Eple',
           'IDGAF 🤘', '봄날', E'\\o/', 'Saeglópur'
       ])[1 + (hashint8extended(n, 303) & 15)],
       album_id,
       track_number,
       CASE WHEN (hashint8extended(n, 304) & 15) > 0
            THEN 90000 + (hashint8extended(n, 305) & 262143)::integer END,
       timestamp '2024-11-15 08:00:00' + (hashint8extended(n, 306) & 1073741823)
           * interval '1 millisecond'
FROM (
    SELECT albums.id AS album_id, track_number,
           row_number() OVER (ORDER BY albums.id, track_number) AS n
    FROM public.albums
    CROSS JOIN generate_series(1, 3) AS track_number
) AS numbered;

INSERT INTO public."User" (id, name, email, "createdAt")
SELECT 'cm' || substr(lpad(to_hex(hashint8extended(n, 401)), 16, '0')
                      || lpad(to_hex(hashint8extended(n, 402)), 16, '0'), 1, 23),
       (ARRAY[
           'Zoë', 'Søren', 'Łukasz', '美咲', 'O''Neill', 'Iñaki', 'Дарья', NULL
       ])[1 + (hashint8extended(n, 403) & 7)],
       'listener' || n || '@example.org',
       timestamp '2024-09-01 08:00:00' + (hashint8extended(n, 404) & 4294967295)
           * interval '1 millisecond'
FROM generate_series(1, (SELECT greatest(count(*) / 10, 5) FROM public.artists)) AS n;
