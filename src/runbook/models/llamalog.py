"""SQLAlchemy models of the music application after EnrichmentLog became LlamaLog.

The mapping names every type, key and index as the migrated database does, so that a comparison of
`Base.metadata` with it finds nothing to change. Of User, Artist, Album and Track only what the
sample database holds is mapped.
"""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import ForeignKey, Index, MetaData, PrimaryKeyConstraint, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class LlamaLogCategory(StrEnum):
    """What a log entry is about; in the database's order."""

    CREATED = "CREATED"
    """An entity was created; also whatever no rule knows."""
    ENRICHED = "ENRICHED"
    """Data was fetched from a music service, or previewed."""
    CORRECTED = "CORRECTED"
    """An administrator corrected an entity."""
    CACHED = "CACHED"
    """An image was copied into the cache."""
    FAILED = "FAILED"
    """Work that failed and that no other rule knows."""


class EnrichmentEntityType(StrEnum):
    """What kind of entity a log entry concerns."""

    ARTIST = "ARTIST"
    ALBUM = "ALBUM"
    TRACK = "TRACK"


class EnrichmentStatus(StrEnum):
    """How far the logged work came, or how it ended."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    """Done, in entries from before SUCCESS and PARTIAL_SUCCESS told more."""
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    """Some of the sources answered."""
    NO_DATA_AVAILABLE = "NO_DATA_AVAILABLE"
    SKIPPED = "SKIPPED"
    PREVIEW = "PREVIEW"
    """Only shown to a person, nothing was written."""


class DataQuality(StrEnum):
    """How complete an entity's data is."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


_METADATA = MetaData()


def _enum_type(members: type[StrEnum]) -> ENUM:
    """Return the PostgreSQL enum type that has the name and the labels of `members`."""
    # Bound to the metadata, not to one table: "DataQuality" serves three, and must be
    # created before the first and dropped after the last of them.
    return ENUM(members, name=members.__name__, metadata=_METADATA)


class Base(DeclarativeBase):
    """Base of the models: which PostgreSQL type each Python type is stored as."""

    metadata = _METADATA
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        list[str]: ARRAY(Text()),
        # Without none_as_null an explicit None would be stored as the JSON value null.
        dict[str, Any]: JSONB(none_as_null=True),
        dt.datetime: TIMESTAMP(precision=3),
        DataQuality: _enum_type(DataQuality),
        EnrichmentEntityType: _enum_type(EnrichmentEntityType),
        EnrichmentStatus: _enum_type(EnrichmentStatus),
        LlamaLogCategory: _enum_type(LlamaLogCategory),
    }


_NEW_UUID = text("gen_random_uuid()")
_NOW = text("CURRENT_TIMESTAMP")


class User(Base):
    """A listener or administrator; deleting one leaves the log entries, without `user_id`."""

    __tablename__ = "User"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="User_pkey"),
        Index("User_email_key", "email", unique=True),
    )

    id: Mapped[str]
    name: Mapped[str | None]
    email: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column("createdAt", server_default=_NOW)

    # passive_deletes="all": what becomes of the log entries is the foreign key's to decide.
    llama_logs: Mapped[list["LlamaLog"]] = relationship(
        back_populates="user", passive_deletes="all"
    )


class Artist(Base):
    """An artist; deleting one deletes its albums and log entries."""

    __tablename__ = "artists"
    __table_args__ = (PrimaryKeyConstraint("id", name="artists_pkey"),)

    id: Mapped[uuid.UUID] = mapped_column(server_default=_NEW_UUID)
    name: Mapped[str] = mapped_column(String(255))
    musicbrainz_id: Mapped[uuid.UUID | None]
    data_quality: Mapped[DataQuality | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)

    albums: Mapped[list["Album"]] = relationship(back_populates="artist", passive_deletes="all")
    llama_logs: Mapped[list["LlamaLog"]] = relationship(
        back_populates="artist", passive_deletes="all"
    )


class Album(Base):
    """An album of one artist; deleting one deletes its tracks and log entries."""

    __tablename__ = "albums"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="albums_pkey"),
        Index("albums_artist_id_idx", "artist_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=_NEW_UUID)
    title: Mapped[str] = mapped_column(String(255))
    artist_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey(
            "artists.id", name="albums_artist_id_fkey", ondelete="CASCADE", onupdate="CASCADE"
        )
    )
    release_date: Mapped[dt.date | None]
    data_quality: Mapped[DataQuality | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)

    artist: Mapped[Artist] = relationship(back_populates="albums")
    tracks: Mapped[list["Track"]] = relationship(back_populates="album", passive_deletes="all")
    llama_logs: Mapped[list["LlamaLog"]] = relationship(
        back_populates="album", passive_deletes="all"
    )


class Track(Base):
    """A track of one album; deleting one deletes its log entries."""

    __tablename__ = "tracks"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="tracks_pkey"),
        Index("tracks_album_id_idx", "album_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=_NEW_UUID)
    title: Mapped[str] = mapped_column(String(255))
    album_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("albums.id", name="tracks_album_id_fkey", ondelete="CASCADE", onupdate="CASCADE")
    )
    track_number: Mapped[int]
    duration_ms: Mapped[int | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)

    album: Mapped[Album] = relationship(back_populates="tracks")
    llama_logs: Mapped[list["LlamaLog"]] = relationship(
        back_populates="track", passive_deletes="all"
    )


class LlamaLog(Base):
    """A log entry: what was done to an artist, album or track, with which outcome."""

    __tablename__ = "llama_logs"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="llama_logs_pkey"),
        Index("llama_logs_entity_type_entity_id_idx", "entity_type", "entity_id"),
        Index("llama_logs_artist_id_created_at_idx", "artist_id", "created_at"),
        Index("llama_logs_album_id_created_at_idx", "album_id", "created_at"),
        Index("llama_logs_track_id_created_at_idx", "track_id", "created_at"),
        Index("llama_logs_status_created_at_idx", "status", "created_at"),
        Index("llama_logs_operation_idx", "operation"),
        Index("llama_logs_sources_idx", "sources"),
        Index("llama_logs_user_id_idx", "user_id"),
        Index("llama_logs_parent_job_id_idx", "parent_job_id"),
        Index("llama_logs_is_root_job_created_at_idx", "is_root_job", "created_at"),
        # In camel case, unlike the others: so the application's own schema file calls it.
        Index("llama_logs_category_createdAt_idx", "category", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(server_default=_NEW_UUID)
    entity_type: Mapped[EnrichmentEntityType | None]
    entity_id: Mapped[uuid.UUID | None]
    artist_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(
            "artists.id", name="llama_logs_artist_id_fkey", ondelete="CASCADE", onupdate="CASCADE"
        )
    )
    album_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(
            "albums.id", name="llama_logs_album_id_fkey", ondelete="CASCADE", onupdate="CASCADE"
        )
    )
    track_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(
            "tracks.id", name="llama_logs_track_id_fkey", ondelete="CASCADE", onupdate="CASCADE"
        )
    )
    operation: Mapped[str] = mapped_column(String(100))
    sources: Mapped[list[str] | None]
    status: Mapped[EnrichmentStatus]
    fields_enriched: Mapped[list[str] | None]
    data_quality_before: Mapped[DataQuality | None]
    data_quality_after: Mapped[DataQuality | None]
    error_message: Mapped[str | None]
    error_code: Mapped[str | None] = mapped_column(String(50))
    retry_count: Mapped[int] = mapped_column(server_default=text("0"))
    duration_ms: Mapped[int | None]
    api_call_count: Mapped[int] = mapped_column(server_default=text("0"))
    # `metadata` itself is taken by declarative classes.
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    job_id: Mapped[str | None] = mapped_column(String(100))
    triggered_by: Mapped[str | None] = mapped_column(String(50))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    user_id: Mapped[str | None] = mapped_column(
        ForeignKey(
            "User.id", name="llama_logs_user_id_fkey", ondelete="SET NULL", onupdate="CASCADE"
        )
    )
    reason: Mapped[str | None]
    preview_data: Mapped[dict[str, Any] | None]
    parent_job_id: Mapped[str | None] = mapped_column(String(100))
    is_root_job: Mapped[bool] = mapped_column(server_default=text("false"))
    category: Mapped[LlamaLogCategory]

    artist: Mapped[Artist | None] = relationship(back_populates="llama_logs")
    album: Mapped[Album | None] = relationship(back_populates="llama_logs")
    track: Mapped[Track | None] = relationship(back_populates="llama_logs")
    user: Mapped[User | None] = relationship(back_populates="llama_logs")
