"""Copying rows from one database to another, as a stream: memory does not grow with them."""

from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import snapshot
from runbook.rehearsal.copy import Scratch
from runbook.trust.settings import for_reading

Connection = psycopg.Connection[Any]


def copy_rows(source: Connection, target: Connection, wanted: Scratch) -> int:
    """Copy the rows that are wanted, as text: their binary form names types by OID, and those
    differ between databases. Return how many there were."""
    assert wanted.catalog.table is not None
    table = wanted.catalog.table
    out = sql.render(
        "COPY (SELECT {columns} FROM {source}) TO STDOUT",
        columns=wanted.columns(),
        source=wanted.relation(),
    )
    into = sql.render(
        "COPY {table} ({columns}) FROM STDIN",
        table=sql.name(table.schema, table.name),
        columns=wanted.columns(),
    )
    with (
        snapshot(source, wanted.holding(source)),
        source.cursor() as reader,
        target.cursor() as writer,
    ):
        source.execute(for_reading().encode())
        wanted.require_known(source)
        with reader.copy(out.encode()) as read, writer.copy(into.encode()) as write:
            for block in read:
                write.write(block)
        return writer.rowcount
