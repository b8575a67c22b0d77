"""Audited PostgreSQL migrations: reviewed, proved and archived."""

__version__ = "0.1.0"
