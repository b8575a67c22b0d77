"""What the runbook does in the database for `runbook migrate`, measured in a process of its own.

Called by the benchmark with a conninfo; prints one JSON object.
"""

import json
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from runbook.catalog import read_catalog, read_server
from runbook.database import Target, connect
from runbook.models import llamalog
from runbook.plan import Options, blockers, build_plan, review
from runbook.plan.script import script
from runbook.run import apply_atomic
from runbook.spec import load_spec
from runbook.verify import Counted, verify

_timings_ms: dict[str, float] = {}


def main(conninfo: str) -> None:
    """Migrate the database, step by step as the notebook does, and print what it took."""
    spec, options = load_spec("llamalog"), Options(mode="atomic")
    target = Target(reference="bench", display="bench", conninfo=conninfo)
    llamalog.Base.registry.configure()  # the client's start, and none of the database's work
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
            applied = apply_atomic(
                lambda: connect(target),
                spec,
                catalog,
                plan,
                run_id=uuid.uuid4(),
                wait_ms=options.lock_timeout_ms,
            )
        with _timed("read the catalog again"):
            entry = read_catalog(connection, spec).applied
            assert entry is not None
        with _timed("ask the checks"):
            results = verify(connection, spec, entry, Counted.of(applied)).results
    failed = [result.id for result in results if not result.passed]
    print(
        json.dumps(
            {
                "locked_ms": applied.locked_ms,
                "peak_bytes": peak_bytes(),
                "timings_ms": _timings_ms,
                "statements": [asdict(one) for one in applied.statements],
                "failed": failed + ([] if applied.proof.passed else ["proof"]),
            }
        )
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


if __name__ == "__main__":
    main(sys.argv[1])
