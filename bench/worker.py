"""What the runbook does in the database for `runbook migrate`, measured in a process of its own.

Called by the benchmark with a conninfo, the mode and the jobs; prints one JSON object.
"""

import argparse
import json
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg

from bench.way import MODES, Mode
from runbook.catalog import read_catalog, read_server
from runbook.database import Target, connect
from runbook.facts import Catalog
from runbook.models import llamalog
from runbook.plan import Options, Plan, blockers, build_plan, review
from runbook.plan.script import script
from runbook.run import Executed, Proof, apply_atomic
from runbook.run.online import Journal, Limits, apply_online
from runbook.spec import Spec, load_spec
from runbook.verify import Counted, count_rows, verify

Connect = Callable[[], psycopg.Connection[Any]]

_timings_ms: dict[str, float] = {}


def main(conninfo: str, mode: Mode, jobs: int) -> None:
    """Migrate the database, step by step as the notebook does, and print what it took.

    Online a view stays under the old name: the application goes on writing through it.
    """
    spec = load_spec("llamalog")
    options = Options(mode=mode, old_name_view=mode == "online")
    target = Target(reference="bench", display="bench", conninfo=conninfo)
    # The client's start, and none of the database's work.
    llamalog.Base.registry.configure()
    import_module("alembic.autogenerate")
    with connect(target) as connection:
        with _timed("read the catalog, with the census"):
            read_server(connection)
            catalog = read_catalog(connection, spec)
        with _timed("review and plan"):
            assert not blockers(review(spec, catalog, options))
            plan = build_plan(spec, catalog, options)
            assert catalog.table is not None and catalog.census is not None
            script(spec, plan, catalog.table)
        with _timed("apply"):
            apply = _atomic if mode == "atomic" else partial(_online, jobs=jobs)
            applied = apply(lambda: connect(target), spec, catalog, plan)
        with _timed("count the rows"):
            counted = applied.counted or count_rows(connection, spec, None)
        with _timed("read the catalog again"):
            entry = read_catalog(connection, spec).applied
            assert entry is not None
        with _timed("ask the checks"):
            results = verify(connection, spec, entry, counted).results
    failed = [result.id for result in results if not result.passed]
    print(
        json.dumps(
            {
                "locked_ms": applied.locked_ms,
                "peak_bytes": peak_bytes(),
                "timings_ms": _timings_ms,
                "statements": [asdict(one) for one in applied.statements],
                "online": applied.online,
                "proof": applied.proof.says,
                "failed": failed + ([] if applied.proof.passed else ["proof"]),
            }
        )
    )


@dataclass(frozen=True, kw_only=True)
class _Applied:
    """What both modes have in common."""

    proof: Proof
    locked_ms: float
    statements: Sequence[Executed]
    counted: Counted | None
    """What was counted under the lock; None where nothing was."""
    online: dict[str, Any] | None = None


def _atomic(connect: Connect, spec: Spec, catalog: Catalog, plan: Plan) -> _Applied:
    applied = apply_atomic(connect, spec, catalog, plan, run_id=uuid.uuid4(), wait_ms=1_000)
    return _Applied(
        proof=applied.proof,
        locked_ms=applied.locked_ms,
        statements=applied.statements,
        counted=Counted.of(applied),
    )


def _online(connect: Connect, spec: Spec, catalog: Catalog, plan: Plan, *, jobs: int) -> _Applied:
    journal = Journal()
    applied = apply_online(
        connect,
        spec,
        catalog,
        plan,
        run_id=uuid.uuid4(),
        wait_ms=1_000,
        limits=Limits(jobs=jobs),
        journal=journal,
    )
    return _Applied(
        proof=applied.proof,
        locked_ms=journal.locked_ms,
        statements=journal.executed,
        counted=None,
        online=journal.content(),
    )


def peak_bytes() -> int:
    """Return the most memory that this process ever held, in bytes.

    On Linux `ru_maxrss` begins with that of the parent, from before the process became its own
    program; VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(found.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _timed(step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    _timings_ms[step] = (time.monotonic() - started) * 1000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("conninfo")
    parser.add_argument("--mode", choices=MODES, default="atomic")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    main(given.conninfo, given.mode, given.jobs)
