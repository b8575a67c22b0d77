"""Loading is all or nothing, refuses what is in its way, and takes any operations."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from runbook.errors import RefusedError
from runbook.sample import (
    EVEN_SHARES,
    create_indexes,
    create_schema,
    load_rows,
    load_sample,
    scaled,
)
from tests.sample.sample_questions import (
    INDEXES,
    KEYS,
    LABELLED,
    ROWS_SHA256,
    digest,
    log_indexes,
    log_keys,
    pairs,
    tables,
    value,
)


@pytest.fixture
def connection(database: Any) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a fresh empty database."""
    with psycopg.connect(database.conninfo) as connection:
        yield connection


@pytest.fixture
def sample(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Connect to a database with the sample loaded and committed."""
    load_sample(connection)
    return connection


def test_statistics_are_there_after_loading(sample: psycopg.Connection[Any]) -> None:
    assert pairs(
        sample,
        "SELECT tablename, count(*) FROM pg_stats WHERE schemaname = 'public' GROUP BY 1",
    ) == {"enrichment_logs": 26, "artists": 5, "albums": 6, "tracks": 6, "User": 4}
    query = "SELECT reltuples FROM pg_class WHERE relname = 'enrichment_logs'"
    assert value(sample, query) == 4052


def test_loading_twice_is_refused_and_leaves_the_first(sample: psycopg.Connection[Any]) -> None:
    with pytest.raises(RefusedError, match="already holds User, artists, albums"):
        load_sample(sample)
    assert digest(sample) == ROWS_SHA256


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE TABLE tracks (id integer)",
        "CREATE TABLE llama_logs (id integer)",
        "CREATE TYPE \"DataQuality\" AS ENUM ('GOOD')",
    ],
)
def test_loading_over_anything_of_that_name_is_refused_and_adds_nothing(
    connection: psycopg.Connection[Any], obstacle: str
) -> None:
    connection.execute(sql.SQL(obstacle))
    connection.commit()
    before = tables(connection)
    with pytest.raises(RefusedError, match="already holds"):
        load_sample(connection)
    assert tables(connection) == before


def test_a_load_that_fails_midway_leaves_nothing(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE SEQUENCE enrichment_logs_pkey")
    connection.commit()
    with pytest.raises(psycopg.errors.DuplicateTable):
        load_sample(connection)
    assert tables(connection) == 0
    assert value(connection, "SELECT to_regtype('\"DataQuality\"') IS NULL")


def test_loading_inside_a_transaction_is_the_callers_to_commit(database: Any) -> None:
    with psycopg.connect(database.conninfo, row_factory=dict_row) as connection:
        connection.execute("SELECT 1")
        load_sample(connection)
        connection.rollback()
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        assert tables(connection) == 0
        load_sample(connection)
        assert tables(connection) == 5


def test_a_client_encoding_that_cannot_carry_the_texts_is_refused(database: Any) -> None:
    with psycopg.connect(database.conninfo, client_encoding="latin1") as connection:
        with pytest.raises(RefusedError, match="UTF-8"):
            load_sample(connection)
        assert tables(connection) == 0


def test_any_operations_can_be_loaded_and_indexed_afterwards(
    connection: psycopg.Connection[Any],
) -> None:
    operations = {**scaled(6000, EVEN_SHARES), "check:album": 70, "musicbrainz:50%": 30}
    create_schema(connection, indexes=False)
    assert log_indexes(connection) == log_keys(connection) == {}
    load_rows(connection, operations)
    create_indexes(connection)
    connection.commit()
    assert log_indexes(connection) == INDEXES
    assert log_keys(connection) == KEYS
    assert (
        pairs(connection, "SELECT operation, count(*) FROM enrichment_logs GROUP BY operation")
        == operations
    )
    labels = pairs(connection, LABELLED)
    assert labels == {
        "CREATED": 1440,
        "ENRICHED": 2160 + 100,
        "CORRECTED": 720,
        "CACHED": 1200,
        "FAILED": 480,
    }


def test_a_row_takes_what_the_real_ones_take(connection: psycopg.Connection[Any]) -> None:
    create_schema(connection)
    assert log_indexes(connection) == INDEXES
    load_rows(connection, scaled(20_000))
    assert 360 < value(connection, "SELECT pg_relation_size('enrichment_logs') / 20000") < 390


def test_rows_are_only_loaded_into_an_empty_table(sample: psycopg.Connection[Any]) -> None:
    with pytest.raises(RefusedError, match="holds rows already"):
        load_rows(sample, {"enrichment:album": 1})
    with pytest.raises(ValueError, match="enrichment:album"):
        load_rows(sample, {"enrichment:album": -1})
    assert digest(sample) == ROWS_SHA256


def test_no_rows_at_all_can_be_asked_for(connection: psycopg.Connection[Any]) -> None:
    create_schema(connection)
    load_rows(connection, {"enrichment:album": 0})
    assert value(connection, "SELECT count(*) FROM enrichment_logs") == 0
