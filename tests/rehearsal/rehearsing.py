"""Shortcuts to a rehearsal, as the notebook goes about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from runbook.catalog import read_catalog
from runbook.database import Target
from runbook.plan import build_plan
from runbook.rehearsal import Leg, Rehearsing, Scratch, scratch
from runbook.rehearsal.copy import Place
from runbook.run.online import Limits
from runbook.spec import Spec, load_spec
from tests.conftest import Database
from tests.migrating import ATOMIC, ONLINE


@contextmanager
def rehearsing(
    database: Database,
    place: Place,
    spec: Spec | None = None,
    *,
    mode: str = "atomic",
    rows: int = 0,
    conninfo: str = "",
    **options: Any,
) -> Iterator[Rehearsing]:
    """Yield a rehearsal on a copy."""
    spec = spec or load_spec("llamalog")
    conninfo = conninfo or database.conninfo

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(conninfo, autocommit=True)

    with connect() as connection:
        catalog = read_catalog(connection, spec)
    wanted = Scratch(
        source=Target(reference="", display="", conninfo=conninfo),
        connect=connect,
        spec=spec,
        catalog=catalog,
        rows=rows,
    )
    chosen = replace(ATOMIC if mode == "atomic" else ONLINE, **options)
    with scratch(place, wanted) as copy:
        yield Rehearsing(
            copy=copy,
            original=catalog,
            options=chosen,
            limits=Limits(max_wait_ms=2_000),
            wait_ms=300,
        )


def there_and_back(under_way: Rehearsing) -> list[Leg]:
    """Go up, down and up again."""
    return [under_way.up("up"), under_way.down(), under_way.up("up again")]


def hash_of(database: Database, spec: Spec | None = None, **options: Any) -> str:
    """Return the hash of the plan that would run on the original."""
    spec = spec or load_spec("llamalog")
    with database.connect() as connection:
        catalog = read_catalog(connection, spec)
    return build_plan(spec, catalog, replace(ATOMIC, **options)).sha256
