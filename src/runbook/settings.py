"""Session settings that every count, rule, proof and check is taken under, whatever the role's are.

A role's or database's own settings may change what SQL means: a search path puts another function
before PostgreSQL's, `extra_float_digits` rounds what is compared as text, row-level security hides
rows, a statement timeout cuts a scan short.
"""

from runbook import sql

READING_TIMEOUT_MS = 3_600_000
"""How long one statement that only reads may take."""


def pinned(schema: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the settings for work on a table of that schema, each with its list of values."""
    return (
        ("search_path", ("pg_catalog", schema, "pg_temp")),
        ("extra_float_digits", ("1",)),
        ("TimeZone", ("UTC",)),
        ("DateStyle", ("ISO, YMD",)),
        ("IntervalStyle", ("postgres",)),
        ("bytea_output", ("hex",)),
        # Rows hidden by a policy must be an error, never a smaller count.
        ("row_security", ("off",)),
    )


def for_reading(schema: str) -> str:
    """Return the statements that pin everything for a transaction that only reads."""
    settings = (*pinned(schema), ("statement_timeout", (f"{READING_TIMEOUT_MS}ms",)))
    return ";\n".join(set_local(name, *values) for name, values in settings)


def set_local(name: str, *values: str) -> str:
    """Return the statement that sets one setting for the open transaction."""
    return sql.render("SET LOCAL {name} = {values}", name=name, values=sql.values(values))
