"""The sample has the real table's shape and totals, and believable, repeatable rows."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook.sample import SAMPLE, load_sample
from tests.sample.sample_questions import (
    INDEXES,
    KEYS,
    LABELLED,
    ROWS_SHA256,
    digest,
    log_indexes,
    log_keys,
    pairs,
    value,
)

COLUMNS = """
id uuid NOT NULL gen_random_uuid()
entity_type "EnrichmentEntityType"
entity_id uuid
artist_id uuid
album_id uuid
track_id uuid
operation character varying(100) NOT NULL
sources text[]
status "EnrichmentStatus" NOT NULL
fields_enriched text[]
data_quality_before "DataQuality"
data_quality_after "DataQuality"
error_message text
error_code character varying(50)
retry_count integer NOT NULL 0
duration_ms integer
api_call_count integer NOT NULL 0
metadata jsonb
job_id character varying(100)
triggered_by character varying(50)
created_at timestamp(3) without time zone NOT NULL CURRENT_TIMESTAMP
user_id text
reason text
preview_data jsonb
parent_job_id character varying(100)
is_root_job boolean NOT NULL false
""".strip().splitlines()


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


def test_the_table_has_the_real_tables_columns_indexes_and_keys(
    sample: psycopg.Connection[Any],
) -> None:
    rows = sample.execute(
        """SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod),
                            CASE WHEN attnotnull THEN 'NOT NULL' END,
                            pg_get_expr(adbin, adrelid))
           FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
           WHERE attrelid = 'enrichment_logs'::regclass AND attnum > 0 ORDER BY attnum"""
    ).fetchall()
    assert [row[0] for row in rows] == COLUMNS
    assert log_indexes(sample) == INDEXES
    assert log_keys(sample) == KEYS


def test_the_sample_has_exactly_its_operations_and_labels(
    sample: psycopg.Connection[Any],
) -> None:
    assert sum(SAMPLE.values()) == 4052
    assert (
        pairs(sample, "SELECT operation, count(*) FROM enrichment_logs GROUP BY operation")
        == SAMPLE
    )
    assert pairs(sample, LABELLED) == {
        "ENRICHED": 3770,
        "CREATED": 266,
        "CORRECTED": 15,
        "CACHED": 1,
    }


def test_every_status_occurs_and_failed_only_where_an_earlier_rule_decides(
    sample: psycopg.Connection[Any],
) -> None:
    statuses = pairs(sample, "SELECT status, count(*) FROM enrichment_logs GROUP BY status")
    assert set(statuses) == {
        *("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "SUCCESS", "PARTIAL_SUCCESS"),
        *("NO_DATA_AVAILABLE", "SKIPPED", "PREVIEW"),
    }
    assert 100 < statuses["FAILED"] < 300
    failed = sample.execute(
        "SELECT DISTINCT split_part(operation, ':', 1) FROM enrichment_logs WHERE status = 'FAILED'"
    ).fetchall()
    assert sorted(failed) == [("discogs",), ("enrichment",)]


def test_the_rows_are_the_same_on_every_version(sample: psycopg.Connection[Any]) -> None:
    assert digest(sample) == ROWS_SHA256


def test_the_rows_do_not_depend_on_the_sessions_settings(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(
        "SET TIME ZONE 'Pacific/Apia'; SET datestyle = 'German, DMY'; SET work_mem = '64kB';"
        " SET enable_hashjoin = off; SET extra_float_digits = 0; SET search_path = pg_catalog"
    )
    load_sample(connection)
    connection.execute("RESET ALL")
    assert digest(connection) == ROWS_SHA256


def test_every_nullable_column_holds_nulls_and_values(sample: psycopg.Connection[Any]) -> None:
    columns = [line.split()[0] for line in COLUMNS if "NOT NULL" not in line]
    counts = sample.execute(
        sql.SQL("SELECT {} FROM enrichment_logs").format(
            sql.SQL(", ").join(sql.SQL("count({})").format(sql.Identifier(c)) for c in columns)
        )
    ).fetchone()
    assert counts is not None
    assert [c for c, n in zip(columns, counts, strict=True) if not 0 < n < 4052] == []


def test_texts_arrays_and_json_hold_what_breaks_careless_tools(
    sample: psycopg.Connection[Any],
) -> None:
    for character in ("'", '"', "%", "\\", "\n", "😞"):
        found = sample.execute(
            "SELECT count(*) FROM enrichment_logs WHERE strpos(error_message, %s) > 0", (character,)
        ).fetchone()
        assert found is not None
        assert found[0] > 0, character
    for word in ("Björk", "Sigur Rós", "東京事変", "فيروز", "🎧"):
        found = sample.execute(
            "SELECT count(*) FROM enrichment_logs WHERE strpos(metadata ->> 'query', %s) > 0",
            (word,),
        ).fetchone()
        assert found is not None
        assert found[0] > 0, word
    assert value(sample, "SELECT count(DISTINCT sources) FROM enrichment_logs") > 6
    assert value(sample, "SELECT count(*) FROM enrichment_logs WHERE sources = '{}'") > 0
    assert value(sample, "SELECT max(cardinality(fields_enriched)) FROM enrichment_logs") > 3


def test_previews_and_only_they_hold_preview_data(sample: psycopg.Connection[Any]) -> None:
    assert value(
        sample,
        "SELECT bool_and((preview_data IS NOT NULL) = (status = 'PREVIEW')"
        " AND (status = 'PREVIEW') = (operation = 'PREVIEW_ENRICHMENT')) FROM enrichment_logs",
    )


def test_an_entry_points_at_the_entity_that_it_names(sample: psycopg.Connection[Any]) -> None:
    assert value(
        sample,
        """SELECT bool_and(CASE entity_type WHEN 'ARTIST' THEN entity_id = artist_id
                               WHEN 'ALBUM' THEN entity_id = album_id
                               ELSE entity_id = track_id END)
           FROM enrichment_logs WHERE entity_id IS NOT NULL""",
    )
    assert value(
        sample,
        """SELECT bool_and(albums.id = coalesce(logs.album_id, albums.id)
                           AND albums.artist_id = coalesce(logs.artist_id, albums.artist_id))
           FROM enrichment_logs AS logs JOIN tracks ON tracks.id = logs.track_id
           JOIN albums ON albums.id = tracks.album_id""",
    )


def test_a_child_job_has_an_earlier_root_job_on_related_entities(
    sample: psycopg.Connection[Any],
) -> None:
    children, with_parent = sample.execute(
        """SELECT count(*), count(*) FILTER (WHERE NOT child.is_root_job AND parent.is_root_job
                                             AND parent.created_at < child.created_at)
           FROM enrichment_logs AS child
           LEFT JOIN enrichment_logs AS parent ON parent.job_id = child.parent_job_id
           WHERE child.parent_job_id IS NOT NULL"""
    ).fetchone() or (0, 0)
    assert children == with_parent > 100
    siblings = "SELECT count(*) FROM enrichment_logs GROUP BY parent_job_id ORDER BY 1"
    assert {row[0] for row in sample.execute(siblings).fetchall()} >= {1, 2}


def test_entries_spread_over_fourteen_months_to_the_millisecond(
    sample: psycopg.Connection[Any],
) -> None:
    query = "SELECT created_at FROM enrichment_logs ORDER BY created_at"
    times = [row[0] for row in sample.execute(query).fetchall()]
    assert 400 < (times[-1] - times[0]).days < 440
    assert len({time.microsecond for time in times}) > 900
    assert all(time.microsecond % 1000 == 0 for time in times)
