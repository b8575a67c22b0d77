"""What a review costs, and how near its estimate comes to what the migration then takes."""

import time
from dataclasses import asdict

import psycopg

from bench.bounds import FROM_ROWS
from bench.contest import runbook
from bench.database import TEMPLATE, Databases
from bench.results import Setup, save
from bench.way import Way
from runbook.catalog import read_catalog
from runbook.numbers import duration, span
from runbook.plan import Options, build_plan
from runbook.plan.estimate import FIXED_MS, Range, expected
from runbook.spec import load_spec

MOST_SECONDS = 5.0
"""How long a review may keep the database at work, for 1,000,000 rows."""


def compare(databases: Databases, setup: Setup, way: Way) -> int:
    """Print and keep the figures; return 1 if the review takes too long or a range misses."""
    databases.make_template(setup.rows, setup.distribution)
    spec = load_spec("llamalog")
    with psycopg.connect(databases.conninfo(TEMPLATE), autocommit=True) as connection:
        started = time.monotonic()
        catalog = read_catalog(connection, spec)
        read_s = time.monotonic() - started
    plan = build_plan(spec, catalog, Options(mode=way.mode))
    whole = expected(plan.estimated_ms, catalog.sample, fixed_ms=FIXED_MS)
    locked = expected(plan.estimated_lock_ms, catalog.sample, fixed_ms=FIXED_MS)
    actual = runbook(way)(databases)
    rows = [
        ("time", whole, actual.database_s * 1000),
        ("longest lock", locked, actual.locked_s * 1000),
    ]
    sample = catalog.sample
    print(
        f"{setup.rows:,} rows on PostgreSQL {setup.server_version}, {way.mode}: the review "
        f"kept the database at work for {read_s:.2f} s"
        + (f", a sampled row took {sample.median_us:.2f} µs" if sample else "")
        + "\n\n| | estimated | actual | |\n|---|---|---|---|\n"
        + "\n".join(_row(*row) for row in rows)
        + "\n"
    )
    save(setup, {"review_s": read_s, "runbook": asdict(actual)}, [])
    misses = any(not range_.holds(ms) for _, range_, ms in rows)
    return int(misses or (setup.rows >= FROM_ROWS and read_s > MOST_SECONDS))


def _row(name: str, range_: Range, ms: float) -> str:
    told = f"{duration(range_.likely_ms)} ({span(range_.least_ms, range_.most_ms)})"
    verdict = "inside" if range_.holds(ms) else "OUTSIDE"
    return f"| {name} | {told} | {duration(ms)} | {verdict} |"
