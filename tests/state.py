"""The whole state of a database as data, so that before and after can be compared."""

import subprocess
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from tests.conftest import Database

_CATALOG = {
    "relations": "SELECT oid, relname, relkind::text, relowner, relpersistence::text, relacl::text,"
    " relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY oid",
    "columns": "SELECT attrelid, attnum, attname, atttypid, attnotnull, atthasdef, attisdropped"
    " FROM pg_attribute WHERE attrelid >= 16384 ORDER BY 1, 2",
    "defaults": "SELECT adrelid, adnum, pg_get_expr(adbin, adrelid) FROM pg_attrdef ORDER BY 1, 2",
    "constraints": "SELECT oid, conname, contype::text, convalidated, pg_get_constraintdef(oid)"
    " FROM pg_constraint WHERE oid >= 16384 ORDER BY oid",
    "indexes": "SELECT indexrelid, indisvalid, indisready, pg_get_indexdef(indexrelid)"
    " FROM pg_index WHERE indexrelid >= 16384 ORDER BY 1",
    "types": "SELECT oid, typname, typtype::text FROM pg_type WHERE oid >= 16384 ORDER BY oid",
    "labels": "SELECT enumtypid, enumlabel, enumsortorder FROM pg_enum ORDER BY 1, 3",
    "schemas": "SELECT oid, nspname FROM pg_namespace WHERE oid >= 16384 ORDER BY oid",
    "triggers": "SELECT oid, tgname, pg_get_triggerdef(oid) FROM pg_trigger ORDER BY oid",
    "functions": "SELECT oid, proname FROM pg_proc WHERE oid >= 16384 ORDER BY oid",
}


def database_state(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return catalog and data: every object with its OID, every row of every table as text."""
    state: dict[str, Any] = {
        name: connection.execute(query.encode()).fetchall() for name, query in _CATALOG.items()
    }
    tables = connection.execute(
        "SELECT oid::regclass::text FROM pg_class"
        " WHERE relkind = 'r' AND oid >= 16384 AND relpersistence = 'p' ORDER BY oid"
    ).fetchall()
    for (table,) in tables:
        query = f"SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t"
        state[f"rows of {table}"] = connection.execute(query.encode()).fetchall()
    return state


def logical_state(database: "Database") -> dict[str, Any]:
    """Return what an application sees of a database: its schema as pg_dump writes it, and all rows
    in an order of their own; without the ledger."""
    dumped = subprocess.run(
        [
            str(database.binaries / "pg_dump"),
            "--schema-only",
            "--exclude-schema=runbook",
            f"--dbname={database.conninfo}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    state: dict[str, Any] = {
        # Newer versions put a random word into two lines.
        "schema": [line for line in dumped.splitlines() if "restrict" not in line]
    }
    with database.connect() as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
            " AND relnamespace IS DISTINCT FROM to_regnamespace('runbook') ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            query = (
                f"SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t"
            )
            state[f"rows of {table}"] = connection.execute(query.encode()).fetchall()
    return state
