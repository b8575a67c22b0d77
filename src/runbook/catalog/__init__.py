"""The catalog: what the database holds, as typed facts."""

from runbook.catalog.reader import (
    missing_privileges,
    owner_code_of,
    read_catalog,
    read_server,
    read_table,
    read_table_named,
    read_types,
    read_types_named,
)
from runbook.catalog.rows import snapshot

__all__ = [
    "missing_privileges",
    "owner_code_of",
    "read_catalog",
    "read_server",
    "read_table",
    "read_table_named",
    "read_types",
    "read_types_named",
    "snapshot",
]
