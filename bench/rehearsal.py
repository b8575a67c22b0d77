"""How near a rehearsal comes: a tenth of the rows is rehearsed, then all are migrated."""

from dataclasses import asdict
from typing import Any

import psycopg

from bench.contest import runbook
from bench.database import TEMPLATE, Databases
from bench.results import Setup, save
from bench.way import Way
from runbook.catalog import read_catalog
from runbook.database import Target
from runbook.numbers import duration, span
from runbook.plan import Options
from runbook.rehearsal import Estimate, Rehearsing, Scratch, estimate, scratch
from runbook.run.online import Limits
from runbook.spec import load_spec


def compare(databases: Databases, setup: Setup, way: Way) -> int:
    """Print the estimate beside what the migration then took; keep both."""
    databases.make_template(setup.rows, setup.distribution)
    estimated, rows = _rehearse(databases, setup, way)
    actual = runbook(way)(databases)
    print(
        f"{rows:,} of {setup.rows:,} rows rehearsed on PostgreSQL {setup.server_version}, "
        f"{way.mode}\n\n| | estimated | actual |\n|---|---|---|\n"
        f"| time | {span(*estimated.ms)} | {duration(actual.database_s * 1000)} |\n"
        f"| longest lock | {span(*estimated.locked_ms)} | {duration(actual.locked_s * 1000)} |\n"
    )
    save(setup, {"estimate": asdict(estimated), "runbook": asdict(actual)}, [])
    return 0


def _rehearse(databases: Databases, setup: Setup, way: Way) -> tuple[Estimate, int]:
    """Rehearse in a scratch database; return the estimate, and how many rows were tried."""
    spec, conninfo = load_spec("llamalog"), databases.conninfo(TEMPLATE)

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(conninfo, autocommit=True)

    with connect() as connection:
        catalog = read_catalog(connection, spec)
    wanted = Scratch(
        source=Target(reference="", display="", conninfo=conninfo),
        connect=connect,
        spec=spec,
        catalog=catalog,
        rows=setup.rows // 10,
    )
    with scratch("database", wanted) as copy:
        under_way = Rehearsing(
            copy=copy,
            original=catalog,
            options=Options(mode=way.mode),
            limits=Limits(jobs=way.jobs),
            wait_ms=100,
        )
        legs = [under_way.up("up"), under_way.down(), under_way.up("up again")]
        return estimate("up", legs[::2], copy.rows, wanted.total), copy.rows
