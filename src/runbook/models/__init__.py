"""SQLAlchemy models of a shipped migration's tables, as they are after it."""
