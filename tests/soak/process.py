"""A run in a process of its own, to be killed: `python -m tests.soak.process CONNINFO [JOBS]`.

It begins, or goes on where the ledger says, and ends with the run's exit code.
"""

import sys
import uuid

import psycopg

from runbook.catalog import read_catalog
from runbook.errors import RunbookError
from runbook.plan import Options, build_plan, resumed_plan
from runbook.run.online import Journal, Limits, apply_online
from runbook.spec import load_spec


def main(conninfo: str, jobs: int) -> int:
    spec = load_spec("llamalog")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        catalog = read_catalog(connection, spec)
    if catalog.applied:
        return 0
    options = Options(mode="online", old_name_view=True)
    plan = (
        resumed_plan(spec, catalog, options.mode)
        if catalog.unfinished
        else build_plan(spec, catalog, options)
    )
    try:
        apply_online(
            lambda: psycopg.connect(conninfo, autocommit=True, application_name="runbook soak"),
            spec,
            catalog,
            plan,
            run_id=uuid.uuid4(),
            wait_ms=10_000,
            limits=Limits(jobs=jobs, batch_ms=10, max_wait_ms=60_000),
            journal=Journal(),
            tell=lambda phase, text, share: print(phase, text, flush=True),
        )
    except RunbookError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 1))
