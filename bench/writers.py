"""An application that keeps writing while its table is migrated, and finds every write again.

A process of its own: it writes "ready" to standard output, works until its standard input is
closed, then looks for everything that was acknowledged and prints one JSON object.
"""

import argparse
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from runbook import sql
from runbook.spec import load_spec

OPERATIONS = (
    "enrichment:artist", "enrichment:album", "discogs:get-artist", "PREVIEW_ENRICHMENT",
    "cache:artist-image", "admin_correction", "manual_correction", "MANUAL_ADD", "elsewhere",
)  # fmt: skip
STATUSES = ("PENDING", "COMPLETED", "FAILED", "SUCCESS", "SKIPPED")

Row = tuple[str, str]
"""Operation and status."""


@dataclass
class Writer:
    """One connection, which writes rows that no other one touches."""

    conninfo: str
    table: str
    rate: float
    """Transactions a second."""
    number: int
    of: int
    written: dict[str, Row | None] = field(default_factory=dict)
    """Every row that an acknowledged transaction wrote, as it left it; None where it deleted it."""
    latencies_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def work(self, stopping: threading.Event, ready: threading.Barrier) -> None:
        """Write until it shall stop."""
        chance = random.Random(self.number)
        with psycopg.connect(self.conninfo, autocommit=True, application_name="writer") as c:
            found = c.execute(_OWN, {"of": self.of, "number": self.number}).fetchall()
            alive = [str(row[0]) for row in found]
            ready.wait()
            due = time.monotonic()
            while not stopping.is_set():
                due = max(due + 1 / self.rate, time.monotonic() - 1)
                stopping.wait(max(0.0, due - time.monotonic()))
                self._one(c, chance, alive)

    def _one(
        self, connection: psycopg.Connection[Any], chance: random.Random, alive: list[str]
    ) -> None:
        """Do one transaction; note it once it is acknowledged."""
        row = (chance.choice(OPERATIONS), chance.choice(STATUSES))
        place = chance.randrange(len(alive))
        kind = chance.choices(["insert", "update", "delete"], [4, 5, 1])[0]
        id_ = str(uuid.UUID(int=chance.getrandbits(128))) if kind == "insert" else alive[place]
        table = sql.text(sql.name(self.table))
        statements = {
            "insert": f"INSERT INTO {table} (operation, status, id)"  # noqa: S608
            ' VALUES (%s, %s::"EnrichmentStatus", %s)',
            "update": f"UPDATE {table} SET operation = %s,"  # noqa: S608
            ' status = %s::"EnrichmentStatus" WHERE id = %s',
            "delete": f"DELETE FROM {table} WHERE id = %s",  # noqa: S608
        }
        values = [id_] if kind == "delete" else [*row, id_]
        began = time.monotonic()
        try:
            cursor = connection.execute(statements[kind].encode(), values)
        except psycopg.Error as error:
            self.failures.append(f"{kind}: {error}")
            return
        self.latencies_ms.append((time.monotonic() - began) * 1000)
        if cursor.rowcount != 1:
            self.failures.append(f"{kind} of {id_}: {cursor.rowcount} rows")
        self.written[id_] = None if kind == "delete" else row
        if kind == "insert":
            alive.append(id_)
        if kind == "delete":
            alive[place] = alive[-1]
            alive.pop()


_OWN = """\
SELECT id FROM enrichment_logs TABLESAMPLE SYSTEM (2)
WHERE abs(hashtext(id::text)) %% %(of)s = %(number)s LIMIT 5000"""


def lost(conninfo: str, written: dict[str, Row | None]) -> list[str]:
    """Return the writes that are not found again as they were acknowledged, with the category that
    the rules give them."""
    classify = load_spec("llamalog").classify
    assert classify is not None
    query = sql.render(
        "SELECT id::text, operation, status::text, category::text, {given} FROM llama_logs\n"
        "WHERE id = ANY (%s::uuid[])",
        given=classify.label_expression(None),
    ).replace("%'", "%%'")
    with psycopg.connect(conninfo) as connection:
        found = {
            row[0]: row[1:]
            for row in connection.execute(query.encode(), [list(written)]).fetchall()
        }
    wrong = []
    for id_, row in written.items():
        there = found.get(id_)
        if row is None and there is not None:
            wrong.append(f"{id_} was deleted and is there")
        elif row is not None and there is None:
            wrong.append(f"{id_} was written and is gone")
        elif row is not None and there is not None and tuple(there[:2]) != row:
            wrong.append(f"{id_} was written as {row} and is {there}")
        elif there is not None and there[2] != there[3]:
            wrong.append(f"{id_} is {there}: the rules give another category")
    return wrong


def main() -> None:
    """Write until standard input is closed; print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.writers", description=__doc__)
    parser.add_argument("conninfo")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--rate", type=float, default=240, help="transactions a second in all")
    parser.add_argument("--table", default="enrichment_logs")
    given = parser.parse_args()
    writers = [
        Writer(given.conninfo, given.table, given.rate / given.connections, n, given.connections)
        for n in range(given.connections)
    ]
    seconds = _run(writers, sys.stdin.read)
    latencies = sorted(ms for writer in writers for ms in writer.latencies_ms)
    failures = [text for writer in writers for text in writer.failures]
    wrong = [text for writer in writers for text in lost(given.conninfo, writer.written)]
    print(
        json.dumps(
            {
                "transactions": len(latencies),
                "per_second": len(latencies) / seconds,
                "failed": len(failures),
                "failures": failures[:5],
                "written": sum(len(writer.written) for writer in writers),
                "lost": len(wrong),
                "losses": wrong[:5],
                "longest_ms": latencies[-1],
                "p99_ms": latencies[int(len(latencies) * 0.99)],
                "median_ms": latencies[len(latencies) // 2],
            }
        )
    )


def _run(writers: list[Writer], until: Callable[[], object]) -> float:
    """Have all of them write until something returns; return for how many seconds."""
    stopping = threading.Event()
    ready = threading.Barrier(len(writers) + 1)
    threads = [threading.Thread(target=w.work, args=(stopping, ready)) for w in writers]
    for thread in threads:
        thread.start()
    ready.wait()
    print("ready", flush=True)
    began = time.monotonic()
    until()
    stopping.set()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
