-- Primary key, indexes and foreign keys of `enrichment_logs`, with the names that Prisma gave.

ALTER TABLE public.enrichment_logs ADD CONSTRAINT enrichment_logs_pkey PRIMARY KEY (id);

CREATE INDEX enrichment_logs_entity_type_entity_id_idx
    ON public.enrichment_logs (entity_type, entity_id);
CREATE INDEX enrichment_logs_artist_id_created_at_idx
    ON public.enrichment_logs (artist_id, created_at);
CREATE INDEX enrichment_logs_album_id_created_at_idx
    ON public.enrichment_logs (album_id, created_at);
CREATE INDEX enrichment_logs_track_id_created_at_idx
    ON public.enrichment_logs (track_id, created_at);
CREATE INDEX enrichment_logs_status_created_at_idx
    ON public.enrichment_logs (status, created_at);
CREATE INDEX enrichment_logs_operation_idx ON public.enrichment_logs (operation);
-- A B-tree over an array: what Prisma makes of `@@index([sources])` without a `type`.
CREATE INDEX enrichment_logs_sources_idx ON public.enrichment_logs (sources);
CREATE INDEX enrichment_logs_user_id_idx ON public.enrichment_logs (user_id);
CREATE INDEX enrichment_logs_parent_job_id_idx ON public.enrichment_logs (parent_job_id);
CREATE INDEX enrichment_logs_is_root_job_created_at_idx
    ON public.enrichment_logs (is_root_job, created_at);

ALTER TABLE public.enrichment_logs ADD CONSTRAINT enrichment_logs_artist_id_fkey
    FOREIGN KEY (artist_id) REFERENCES public.artists (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE public.enrichment_logs ADD CONSTRAINT enrichment_logs_album_id_fkey
    FOREIGN KEY (album_id) REFERENCES public.albums (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE public.enrichment_logs ADD CONSTRAINT enrichment_logs_track_id_fkey
    FOREIGN KEY (track_id) REFERENCES public.tracks (id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE public.enrichment_logs ADD CONSTRAINT enrichment_logs_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES public."User" (id) ON DELETE SET NULL ON UPDATE CASCADE;
