"""The catalog: what the database holds, as typed facts."""

from runbook.catalog.reader import read_catalog, read_server, read_table, read_types, snapshot

__all__ = ["read_catalog", "read_server", "read_table", "read_types", "snapshot"]
