"""The models fit the migrated database exactly, and query and write it."""

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from runbook.models.llamalog import (
    Album,
    Artist,
    Base,
    DataQuality,
    EnrichmentEntityType,
    EnrichmentStatus,
    LlamaLog,
    LlamaLogCategory,
    Track,
    User,
)
from runbook.sample import load_sample

# The change by hand, so that the models are held against something the package did not make.
MIGRATION = """
ALTER TABLE enrichment_logs RENAME TO llama_logs;
CREATE TYPE "LlamaLogCategory" AS ENUM ('CREATED', 'ENRICHED', 'CORRECTED', 'CACHED', 'FAILED');
ALTER TABLE llama_logs ADD COLUMN category "LlamaLogCategory";
UPDATE llama_logs SET category = (
    CASE WHEN operation LIKE 'cache:%' THEN 'CACHED'
         WHEN operation = 'admin_correction' THEN 'CORRECTED'
         WHEN operation ~ '^(enrichment|check|musicbrainz|spotify|discogs):'
              OR operation = 'PREVIEW_ENRICHMENT' THEN 'ENRICHED'
         WHEN status = 'FAILED' THEN 'FAILED'
         ELSE 'CREATED' END
)::"LlamaLogCategory";
ALTER TABLE llama_logs ALTER COLUMN category SET NOT NULL;
CREATE INDEX "llama_logs_category_createdAt_idx" ON llama_logs (category, created_at);
DO $$
DECLARE old text;
BEGIN
    FOR old IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'llama_logs'::regclass AND contype IN ('p', 'f')
    LOOP
        EXECUTE format('ALTER TABLE llama_logs RENAME CONSTRAINT %I TO %I',
                       old, replace(old, 'enrichment_logs', 'llama_logs'));
    END LOOP;
    FOR old IN SELECT indexname FROM pg_indexes WHERE indexname LIKE 'enrichment@_logs%' ESCAPE '@'
    LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I',
                       old, replace(old, 'enrichment_logs', 'llama_logs'));
    END LOOP;
END $$;
"""

SHAPE = {
    "columns": """
        SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,
               pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
        ORDER BY attrelid::regclass::text, attnum""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1, 2""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "enums": """
        SELECT enumtypid::regtype::text, array_agg(enumlabel ORDER BY enumsortorder)
        FROM pg_enum GROUP BY 1 ORDER BY 1""",
}


def shape(connection: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Return all columns, constraints, indexes and enum types of schema public."""
    return {part: connection.execute(sql.SQL(query)).fetchall() for part, query in SHAPE.items()}


@pytest.fixture
def connection(database: Any) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a database that holds the sample, migrated by hand."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        load_sample(connection)
        connection.execute(sql.SQL(MIGRATION))
        yield connection


@pytest.fixture
def engine(database: Any, connection: psycopg.Connection[Any]) -> Iterator[Engine]:
    """Give SQLAlchemy the same database."""
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database.conninfo)
    )
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Open a session on the migrated sample."""
    with Session(engine) as session:
        yield session


def test_the_models_describe_the_migrated_database_to_the_letter(
    connection: psycopg.Connection[Any], engine: Engine
) -> None:
    migrated = shape(connection)
    Base.metadata.drop_all(engine)
    assert shape(connection) == {"columns": [], "constraints": [], "indexes": [], "enums": []}
    Base.metadata.create_all(engine)
    assert shape(connection) == migrated
    assert len(migrated["columns"]) == 27 + 5 + 6 + 6 + 4


def test_creating_the_tables_again_changes_nothing(
    connection: psycopg.Connection[Any], engine: Engine
) -> None:
    migrated = shape(connection)
    Base.metadata.create_all(engine)
    assert shape(connection) == migrated


def test_the_categories_are_the_five_labels_in_order() -> None:
    assert [category.value for category in LlamaLogCategory] == [
        *("CREATED", "ENRICHED", "CORRECTED", "CACHED", "FAILED")
    ]


def test_entries_are_counted_by_category(session: Session) -> None:
    query = select(LlamaLog.category, func.count()).group_by(LlamaLog.category)
    assert {row[0]: row[1] for row in session.execute(query)} == {
        LlamaLogCategory.ENRICHED: 3770,
        LlamaLogCategory.CREATED: 266,
        LlamaLogCategory.CORRECTED: 15,
        LlamaLogCategory.CACHED: 1,
    }
    failed = select(LlamaLog).where(LlamaLog.category == LlamaLogCategory.FAILED)
    assert session.scalars(failed).all() == []


def test_every_row_of_every_table_can_be_read(session: Session) -> None:
    for model in (LlamaLog, User, Artist, Album, Track):
        rows = session.scalars(select(model)).all()
        assert len(rows) == session.scalar(select(func.count()).select_from(model))
        assert rows


@pytest.mark.parametrize(
    ("parent", "attribute"),
    [(User, "user"), (Artist, "artist"), (Album, "album"), (Track, "track")],
)
def test_llama_logs_are_reached_from_each_parent_and_back(
    session: Session, parent: Any, attribute: str
) -> None:
    found = session.scalars(select(parent).where(parent.llama_logs.any()).limit(1)).one()
    entries = found.llama_logs
    assert entries
    assert all(getattr(entry, attribute) is found for entry in entries)


def test_columns_arrive_as_the_types_that_they_are_annotated_with(session: Session) -> None:
    preview = session.scalars(
        select(LlamaLog).where(LlamaLog.status == EnrichmentStatus.PREVIEW).limit(1)
    ).one()
    assert preview.status is EnrichmentStatus.PREVIEW
    assert preview.category is LlamaLogCategory.ENRICHED
    assert isinstance(preview.entity_type, EnrichmentEntityType)
    assert isinstance(preview.id, uuid.UUID)
    assert isinstance(preview.preview_data, dict)
    assert isinstance(preview.sources, list)
    quality = session.scalars(select(LlamaLog.data_quality_before).distinct()).all()
    assert set(quality) == {*DataQuality, None}


def test_a_new_entry_gets_the_databases_defaults_and_null_for_none(
    session: Session, connection: psycopg.Connection[Any]
) -> None:
    artist = session.scalars(select(Artist).limit(1)).one()
    entry = LlamaLog(
        operation="cache:artist-image",
        status=EnrichmentStatus.SUCCESS,
        category=LlamaLogCategory.CACHED,
        sources=["SPOTIFY"],
        metadata_=None,
        preview_data={"größe": 300},
        artist=artist,
    )
    session.add(entry)
    session.commit()
    assert (entry.retry_count, entry.api_call_count, entry.is_root_job) == (0, 0, False)
    assert connection.execute(
        "SELECT artist_id, metadata IS NULL, preview_data ->> 'größe', created_at IS NOT NULL,"
        " category::text FROM llama_logs WHERE id = %s",
        (entry.id,),
    ).fetchone() == (artist.id, True, "300", True, "CACHED")


def test_an_entry_without_a_category_is_refused(
    session: Session, connection: psycopg.Connection[Any]
) -> None:
    session.add(LlamaLog(operation="MANUAL_ADD", status=EnrichmentStatus.SUCCESS))
    with pytest.raises(IntegrityError, match="category"):
        session.commit()
    assert connection.execute("SELECT count(*) FROM llama_logs").fetchone() == (4052,)


def test_deleting_a_parent_leaves_the_entries_to_the_foreign_key(session: Session) -> None:
    artist = session.scalars(select(Artist).where(Artist.llama_logs.any()).limit(1)).one()
    gone = [entry.id for entry in artist.llama_logs]
    user = session.scalars(select(User).where(User.llama_logs.any()).limit(1)).one()
    kept = [entry.id for entry in user.llama_logs if entry.artist_id != artist.id]
    user_id = user.id
    session.delete(artist)
    session.delete(user)
    session.commit()
    assert session.scalars(select(LlamaLog.id).where(LlamaLog.id.in_(gone))).all() == []
    of_user = select(func.count()).select_from(LlamaLog).where(LlamaLog.user_id == user_id)
    assert session.scalar(of_user) == 0
    still = session.scalars(select(LlamaLog.user_id).where(LlamaLog.id.in_(kept))).all()
    assert still
    assert set(still) == {None}
