-- The music application's tables before the migration, the log table still without keys.

CREATE TYPE public."EnrichmentEntityType" AS ENUM ('ARTIST', 'ALBUM', 'TRACK');

CREATE TYPE public."EnrichmentStatus" AS ENUM (
    'PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'SUCCESS', 'PARTIAL_SUCCESS',
    'NO_DATA_AVAILABLE', 'SKIPPED', 'PREVIEW'
);

CREATE TYPE public."DataQuality" AS ENUM ('LOW', 'MEDIUM', 'HIGH');

CREATE TABLE public."User" (
    id text NOT NULL,
    name text,
    email text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "User_pkey" PRIMARY KEY (id)
);
CREATE UNIQUE INDEX "User_email_key" ON public."User" (email);

CREATE TABLE public.artists (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name varchar(255) NOT NULL,
    musicbrainz_id uuid,
    data_quality public."DataQuality",
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT artists_pkey PRIMARY KEY (id)
);

CREATE TABLE public.albums (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title varchar(255) NOT NULL,
    artist_id uuid NOT NULL,
    release_date date,
    data_quality public."DataQuality",
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT albums_pkey PRIMARY KEY (id),
    CONSTRAINT albums_artist_id_fkey FOREIGN KEY (artist_id)
        REFERENCES public.artists (id) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX albums_artist_id_idx ON public.albums (artist_id);

CREATE TABLE public.tracks (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title varchar(255) NOT NULL,
    album_id uuid NOT NULL,
    track_number integer NOT NULL,
    duration_ms integer,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT tracks_pkey PRIMARY KEY (id),
    CONSTRAINT tracks_album_id_fkey FOREIGN KEY (album_id)
        REFERENCES public.albums (id) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX tracks_album_id_idx ON public.tracks (album_id);

CREATE TABLE public.enrichment_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    entity_type public."EnrichmentEntityType",
    entity_id uuid,
    artist_id uuid,
    album_id uuid,
    track_id uuid,
    operation varchar(100) NOT NULL,
    sources text[],
    status public."EnrichmentStatus" NOT NULL,
    fields_enriched text[],
    data_quality_before public."DataQuality",
    data_quality_after public."DataQuality",
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
