"""Loads the music application's tables, as they were before the migration, into a database."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from runbook.errors import RefusedError
from runbook.sample.counts import SAMPLE

_TABLES = ("User", "artists", "albums", "tracks", "enrichment_logs")
_ENUMS = ("EnrichmentEntityType", "EnrichmentStatus", "DataQuality")


def load_sample(connection: psycopg.Connection[Any]) -> None:
    """Create the tables and load the 4,052 rows of the sample, with statistics, or nothing at all.

    The rows are the same on every machine and PostgreSQL version. One transaction; a savepoint
    if the connection is in a transaction already, which is then the caller's to commit.

    Raises RefusedError if one of the tables or types is there already, or the database is not
    in UTF-8.
    """
    with connection.transaction():
        create_schema(connection, indexes=False)
        load_rows(connection, SAMPLE, analyze=False)
        create_indexes(connection)
        _analyze(connection)


def create_schema(connection: psycopg.Connection[Any], *, indexes: bool = True) -> None:
    """Create the five empty tables and their enum types in schema `public`, in one transaction.

    Without `indexes`, `enrichment_logs` has neither indexes nor keys: loading is much faster so.
    Call `create_indexes` afterwards; the result is the same.

    Raises RefusedError if one of the tables or types (or `llama_logs`) is there already, or the
    database is not in UTF-8.
    """
    encodings = (connection.info.parameter_status("server_encoding"), connection.info.encoding)
    if encodings != ("UTF8", "utf-8"):
        raise RefusedError(
            f"The sample needs a database and a client encoding in UTF-8, not {encodings[0]} "
            f"and {encodings[1]}.",
            "Create the database with ENCODING 'UTF8' and leave PGCLIENTENCODING unset.",
        )
    with connection.transaction():
        _refuse_existing(connection)
        _run(connection, "schema.sql")
        if indexes:
            create_indexes(connection)


def load_rows(
    connection: psycopg.Connection[Any], operations: Mapping[str, int], *, analyze: bool = True
) -> None:
    """Fill the empty tables with exactly `operations` (operation → rows) log rows, and parents.

    One transaction. Any operation name of at most 100 characters will do: one with a colon is a
    job's, `PREVIEW…` a preview's; only `enrichment:*`, `discogs:*` and, always, `*_FAILED` get
    status FAILED. With `analyze` the statistics are brought up to date.

    Raises RefusedError if `enrichment_logs` holds rows, ValueError if a count is negative.
    """
    negative = sorted(operation for operation, rows in operations.items() if rows < 0)
    if negative:
        raise ValueError(f"rows must not be negative: {', '.join(negative)}")
    with connection.transaction():
        if connection.execute("SELECT 1 FROM public.enrichment_logs LIMIT 1").fetchone():
            raise RefusedError(
                "The table enrichment_logs holds rows already.",
                "Load into a database that was just created.",
            )
        # The planner cannot know how few rows are asked for: compiling takes seconds, running not.
        connection.execute(
            "SELECT set_config('runbook.sample_operations', %s, true),"
            " set_config('jit', 'off', true)",
            (json.dumps(dict(operations)),),
        )
        _run(connection, "parents.sql")
        _run(connection, "logs.sql")
        if analyze:
            _analyze(connection)


def create_indexes(connection: psycopg.Connection[Any]) -> None:
    """Give `enrichment_logs` its primary key, ten indexes and four foreign keys."""
    with connection.transaction():
        _run(connection, "keys.sql")


def _refuse_existing(connection: psycopg.Connection[Any]) -> None:
    """Raise RefusedError if a table or type of the sample, migrated or not, is in the database."""
    # Every table is a type as well, so that one look-up answers for both.
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) AS name"
            " WHERE to_regtype(format('public.%%I', name)) IS NOT NULL",
            ([*_TABLES, "llama_logs", *_ENUMS],),
        )
        found = cursor.fetchall()
    if found:
        names = ", ".join(name for (name,) in found)
        raise RefusedError(
            f"The database {connection.info.dbname} already holds {names}.",
            "Load the sample into an empty database.",
        )


def _analyze(connection: psycopg.Connection[Any]) -> None:
    """Bring the planner's statistics of the five tables up to date."""
    # Only these: a plain ANALYZE would also go through what else the database holds.
    for table in _TABLES:
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("public", table)))


def _run(connection: psycopg.Connection[Any], name: str) -> None:
    """Execute a file of this package; without parameters, so that `%` in it is just a percent."""
    text = (files(__package__) / name).read_text(encoding="utf-8")
    connection.execute(sql.SQL(text))
