"""The whole state of a database as data, so that before and after can be compared."""

from typing import Any

import psycopg

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
