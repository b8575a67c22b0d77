"""Questions to a database with the sample, and the answers that more than one test expects."""

import hashlib
from typing import Any

import psycopg
from psycopg import sql

ROWS_SHA256 = "09b924c8cade3586ee19ee08a1fcff10e09feb298d4edbc58ab1c1fc25121fc9"

INDEXES = {
    "enrichment_logs_pkey": "(id)",
    "enrichment_logs_album_id_created_at_idx": "(album_id, created_at)",
    "enrichment_logs_artist_id_created_at_idx": "(artist_id, created_at)",
    "enrichment_logs_entity_type_entity_id_idx": "(entity_type, entity_id)",
    "enrichment_logs_is_root_job_created_at_idx": "(is_root_job, created_at)",
    "enrichment_logs_operation_idx": "(operation)",
    "enrichment_logs_parent_job_id_idx": "(parent_job_id)",
    "enrichment_logs_sources_idx": "(sources)",
    "enrichment_logs_status_created_at_idx": "(status, created_at)",
    "enrichment_logs_track_id_created_at_idx": "(track_id, created_at)",
    "enrichment_logs_user_id_idx": "(user_id)",
}

KEYS = {
    "enrichment_logs_pkey": "PRIMARY KEY (id)",
    **{
        f"enrichment_logs_{column}_fkey": f"FOREIGN KEY ({column}) REFERENCES {parent}(id)"
        f" ON UPDATE CASCADE ON DELETE {on_delete}"
        for column, parent, on_delete in (
            ("artist_id", "artists", "CASCADE"),
            ("album_id", "albums", "CASCADE"),
            ("track_id", "tracks", "CASCADE"),
            ("user_id", '"User"', "SET NULL"),
        )
    },
}

LABELLED = """
SELECT CASE WHEN operation LIKE 'cache:%' THEN 'CACHED'
            WHEN operation = 'admin_correction' THEN 'CORRECTED'
            WHEN operation ~ '^(enrichment|check|musicbrainz|spotify|discogs):'
                 OR operation = 'PREVIEW_ENRICHMENT' THEN 'ENRICHED'
            WHEN status = 'FAILED' THEN 'FAILED'
            ELSE 'CREATED' END AS label, count(*)
FROM enrichment_logs GROUP BY label
"""


def pairs(connection: psycopg.Connection[Any], query: str) -> dict[Any, Any]:
    """Return a query's two columns as a mapping."""
    return dict(connection.execute(sql.SQL(query)).fetchall())


def value(connection: psycopg.Connection[Any], query: str) -> Any:
    """Return the only value of a query's only row."""
    row = connection.execute(sql.SQL(query)).fetchone()
    assert row is not None
    return row[0]


def log_indexes(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the log table's indexes: name → columns, each of them valid and a B-tree."""
    return {
        name: definition.split(" USING btree ")[1]
        for name, definition in pairs(
            connection,
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = 'enrichment_logs'::regclass AND indisvalid",
        ).items()
    }


def log_keys(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the log table's validated primary and foreign keys: name → definition."""
    return pairs(
        connection,
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'enrichment_logs'::regclass AND contype IN ('p', 'f') AND convalidated",
    )


def tables(connection: psycopg.Connection[Any]) -> int:
    """Return how many tables schema public holds."""
    return int(value(connection, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))


def digest(connection: psycopg.Connection[Any]) -> str:
    """Return the SHA-256 of all rows of the five tables."""
    sha256 = hashlib.sha256()
    for table in ("User", "artists", "albums", "tracks", "enrichment_logs"):
        copy = sql.SQL('COPY (SELECT * FROM {} ORDER BY id::text COLLATE "C") TO STDOUT').format(
            sql.Identifier(table)
        )
        with connection.cursor().copy(copy) as data:
            for chunk in data:
                sha256.update(chunk)
    return sha256.hexdigest()
