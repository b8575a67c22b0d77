"""The command `python -m bench.fleet`: how the cost of a fleet grows with databases and workers.

Sample databases of 4,052 rows, copies of one, on a server of the benchmark's own, migrated by
`runbook fleet` as a user would. And schemas of one database, reviewed only: what it takes to find
out which of them are alike.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.database import TEMPLATE, Databases, temporary_server
from bench.results import Setup, save
from runbook.sample import SAMPLE

MOST_OVERHEAD_S = 2.0
"""How much longer than its database work a target may take, with two workers or more: four runs
then share a process, and all of them the machine."""

_CONCURRENCY = 8
_SPEC = """
name = "events"
table = "events"
[[operation]]
op = "rename_table"
to = "happenings"
[[operation]]
op = "create_enum"
name = "kind"
labels = ["GOOD", "BAD"]
[[operation]]
op = "classify"
column = "kind"
type = "kind"
otherwise = "GOOD"
[[operation.rule]]
label = "BAD"
when = { column = "code", like = "e%" }
"""


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """What a fleet took."""

    targets: int
    workers: int
    rollout_s: float
    """From the first target's beginning to the last one's end, workers' start included."""
    survey_s: float
    whole_s: float
    """The command, from its start to its end."""
    database_s: float
    """Median of the targets' database work."""
    overhead_s: float
    """Median of what a target took beside it: while others share the processors."""

    @property
    def each_s(self) -> float:
        """How much longer the rollout takes for one target more."""
        return self.rollout_s / self.targets


def main() -> int:
    """Measure, print and keep the figures; return 1 if a target has too much overhead."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--databases", type=int, nargs="+", default=[25, 100, 200])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--schemas", type=int, default=1000, help="0: none")
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    given = parser.parse_args()
    found: list[Rolled] = []
    with temporary_server(given.pg) as (databases, _):
        databases.make_template(sum(SAMPLE.values()), "real")
        version = databases.one("postgres", "SELECT current_setting('server_version')")
        for count in given.databases:
            for workers in given.workers:
                found.append(_rolled(databases, count, workers))
                print(_line(found[-1]), flush=True)
        surveyed = _surveyed(databases, given.schemas) if given.schemas else {}
    worst = max((one.overhead_s for one in found if one.workers > 1), default=0.0)
    kept = worst <= MOST_OVERHEAD_S
    said = f"a target's overhead {worst:.2f} s ≤ {MOST_OVERHEAD_S:g} s"
    print(f"bound: {said}: {'kept' if kept else 'MISSED'}")
    setup = Setup(
        rows=sum(SAMPLE.values()), distribution="real", server_version=version, mode="fleet"
    )
    figures = {"fleets": [asdict(one) for one in found], "survey": surveyed}
    save(setup, figures, [] if kept else [said])
    return 0 if kept else 1


def _line(one: Rolled) -> str:
    return (
        f"{one.targets:>5,} databases, {one.workers} workers: rollout {one.rollout_s:.1f} s, "
        f"{one.each_s:.2f} s for each; a target: database {one.database_s:.2f} s, beside it "
        f"{one.overhead_s:.2f} s; survey {one.survey_s:.1f} s"
    )


def _rolled(databases: Databases, count: int, workers: int) -> Rolled:
    """Make so many copies, migrate them, and return what that took."""
    names = [f"tenant_{n:04d}" for n in range(count)]
    for name in names:
        _execute(
            databases,
            "CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log",
            sql.Identifier(name),
            sql.Identifier(TEMPLATE),
        )
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as name:
        folder = Path(name)
        (folder / "FLEET.toml").write_text(
            'name = "bench"\n[[target]]\nurl = "env:FLEET_URL"\n'
            "databases = \"SELECT datname FROM pg_database WHERE datname LIKE 'tenant%'\"\n",
            "utf-8",
        )
        options = ["--concurrency", str(_CONCURRENCY), "--workers", str(workers)]
        content, whole_s = _fleet(folder, databases.conninfo(TEMPLATE), options)
    for one in names:
        databases.drop(one)
    targets = content["fleet"]["targets"]
    assert len(targets) == count and all(one["exit_code"] == 0 for one in targets)
    assert all(one["proof"] for one in targets)
    return Rolled(
        targets=count,
        workers=workers,
        rollout_s=content["timings"]["roll_out"],
        survey_s=content["timings"]["survey"],
        whole_s=whole_s,
        database_s=statistics.median(one["database_ms"] for one in targets) / 1000,
        overhead_s=statistics.median(one["took_ms"] - one["database_ms"] for one in targets) / 1000,
    )


def _surveyed(databases: Databases, schemas: int) -> dict[str, Any]:
    """Make schemas with a table each, two of them unlike the others, and review all."""
    databases.copy("schemas")
    with psycopg.connect(databases.conninfo("schemas"), autocommit=True) as connection:
        for n in range(schemas):
            connection.execute(
                sql.SQL(
                    "CREATE SCHEMA {0}; CREATE TABLE {0}.events (id bigint PRIMARY KEY, code text);"
                    "INSERT INTO {0}.events SELECT n, 'o' || n FROM generate_series(1, 20) n"
                ).format(sql.Identifier(f"acme_{n:04d}"))
            )
        connection.execute("ALTER TABLE acme_0007.events ADD COLUMN own text")
        connection.execute("CREATE INDEX own_idx ON acme_0042.events (code)")
        connection.execute("ANALYZE")
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as name:
        folder = Path(name)
        (folder / "events.toml").write_text(_SPEC, "utf-8")
        (folder / "FLEET.toml").write_text(
            'name = "schemas"\nspec = "events.toml"\n[[target]]\nurl = "env:FLEET_URL"\n'
            "schemas = 'acme%'\n",
            "utf-8",
        )
        url = databases.conninfo("schemas")
        content, whole_s = _fleet(folder, url, ["--review-only", "--concurrency", "4"])
    survey_s = content["timings"]["survey"]
    print(f"{schemas:,} schemas reviewed in {survey_s:.1f} s: {content['message']}")
    return {"schemas": schemas, "survey_s": survey_s, "whole_s": whole_s}


def _fleet(folder: Path, conninfo: str, options: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run the command; return what it says, and how many seconds it took."""
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    host, port = given["host"], given["port"]
    url = f"postgresql://{given['user']}@/{given['dbname']}?host={host}&port={port}"
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "runbook", "fleet", "FLEET.toml", "--json", *options],
        cwd=folder,
        env=os.environ | {"FLEET_URL": url},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if ended.returncode:
        sys.exit(f"runbook fleet ended with exit code {ended.returncode}: {ended.stdout[:2000]}")
    content: dict[str, Any] = json.loads(ended.stdout)
    return content, seconds


def _execute(databases: Databases, statement: str, *parts: sql.Composable) -> None:
    with psycopg.connect(databases.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*parts))


if __name__ == "__main__":
    sys.exit(main())
