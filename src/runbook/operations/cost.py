"""What it costs to give rows their labels: an update of each that differs, or one rewrite of all.

An update writes a new version of the row and an entry into every index, wherever its key leads;
what is kept beside the row (TOAST) stays. A rewrite copies every byte, TOAST included, and builds
each index anew by sorting. Measured on 1,000,000 rows with 11 indexes and 377 MB, 2 cores: 43 µs
for each updated row, 10 of them for the row and 3 for each index; a rewrite took 1.6 s without
indexes, 2.1 s with one, 9.4 s with all, and 2.3 s more with 433 MB of TOAST.
"""

from runbook.facts import Table

UPDATE_US, UPDATE_INDEX_US = 10.0, 3.0
REWRITE_BYTE_US, REWRITE_INDEX_US = 0.005, 0.7


def update_us(table: Table) -> float:
    """Return microseconds to update one row."""
    return UPDATE_US + UPDATE_INDEX_US * len(table.indexes)


def rewrite_us(table: Table, rows: int) -> float:
    """Return microseconds to rewrite the whole table, which has so many rows."""
    return REWRITE_BYTE_US * table.heap_bytes + REWRITE_INDEX_US * len(table.indexes) * rows
