
CREATE TYPE "EnrichmentEntityType" AS ENUM ('ARTIST', 'ALBUM', 'TRACK');

CREATE TYPE "EnrichmentStatus" AS ENUM (
    'PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'SUCCESS', 'PARTIAL_SUCCESS',
    'NO_DATA_AVAILABLE', 'SKIPPED', 'PREVIEW'
);

CREATE TYPE "DataQuality" AS ENUM ('LOW', 'MEDIUM', 'HIGH');

CREATE TABLE "User" (
    id text NOT NULL,
    name text,
    email text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "User_pkey" PRIMARY KEY (id)
);
CREATE UNIQUE INDEX "User_email_key" ON "User" (email);

CREATE TABLE artists (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL,
    musicbrainz_id uuid,
    data_quality "DataQuality",
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT artists_pkey PRIMARY KEY (id)
);

CREATE TABLE albums (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title varchar(255) NOT NULL,
    artist_id uuid NOT NULL,
    release_date date,
    data_quality "DataQuality",
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT albums_pkey PRIMARY KEY (id),
    CONSTRAINT albums_artist_id_fkey FOREIGN KEY (artist_id)
        REFERENCES artists (id) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX albums_artist_id_idx ON albums (artist_id);

CREATE TABLE tracks (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title varchar(255) NOT NULL,
    album_id uuid NOT NULL,
    track_number integer NOT NULL,
    duration_ms integer,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT tracks_pkey PRIMARY KEY (id),
    CONSTRAINT tracks_album_id_fkey FOREIGN KEY (album_id)
        REFERENCES albums (id) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX tracks_album_id_idx ON tracks (album_id);

CREATE TABLE enrichment_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    entity_type "EnrichmentEntityType",
    entity_id uuid,
    artist_id uuid,
    album_id uuid,
    track_id uuid,
    operation varchar(100) NOT NULL,
    sources text[],
    status "EnrichmentStatus" NOT NULL,
    fields_enriched text[],
    data_quality_before "DataQuality",
    data_quality_after "DataQuality",
    error_message text,
    error_code varchar(50),
    retry_count integer NOT NULL DEFAULT 0,
    duration_ms integer,
    api_call_count integer NOT NULL DEFAULT 0,
    metadata jsonb,
    job_id varchar(100),
    triggered_by varchar(50),
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    user_id text,
    reason text,
    preview_data jsonb,
    parent_job_id varchar(100),
    is_root_job boolean NOT NULL DEFAULT false
);

ALTER TABLE enrichment_logs ADD CONSTRAINT enrichment_logs_pkey PRIMARY KEY (id);

CREATE INDEX enrichment_logs_entity_type_entity_id_idx
    ON enrichment_logs (entity_type, entity_id);
CREATE INDEX enrichment_logs_artist_id_created_at_idx
    ON enrichment_logs (artist_id, created_at);
CREATE INDEX enrichment_logs_album_id_created_at_idx
    ON enrichment_logs (album_id, created_at);
CREATE INDEX enrichment_logs_track_id_created_at_idx
    ON enrichment_logs (track_id, created_at);
CREATE INDEX enrichment_logs_status_created_at_idx
    ON enrichment_logs (status, created_at);
CREATE INDEX enrichment_logs_operation_idx ON enrichment_logs (operation);
CREATE INDEX enrichment_logs_sources_idx ON enrichment_logs (sources);
CREATE INDEX enrichment_logs_user_id_idx ON enrichment_logs (user_id);
CREATE INDEX enrichment_logs_parent_job_id_idx ON enrichment_logs (parent_job_id);
CREATE INDEX enrichment_logs_is_root_job_created_at_idx
    ON enrichment_logs (is_root_job, created_at);

ALTER TABLE enrichment_logs ADD CONSTRAINT enrichment_logs_artist_id_fkey
    FOREIGN KEY (artist_id) REFERENCES artists (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE enrichment_logs ADD CONSTRAINT enrichment_logs_album_id_fkey
    FOREIGN KEY (album_id) REFERENCES albums (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE enrichment_logs ADD CONSTRAINT enrichment_logs_track_id_fkey
    FOREIGN KEY (track_id) REFERENCES tracks (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE enrichment_logs ADD CONSTRAINT enrichment_logs_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES "User" (id) ON DELETE SET NULL ON UPDATE CASCADE;
