"""`runbook status`: where a migration is, how long it will still take, and what to do."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
import psycopg

from runbook.catalog import read_catalog
from runbook.database import connect, resolve
from runbook.errors import RefusedError
from runbook.facts import Catalog, Unfinished
from runbook.report.numbers import share
from runbook.spec import load_spec


def show_status(options: dict[str, Any]) -> None:
    """Print it. Raises `RefusedError` where the database does not answer."""
    spec = load_spec(options["spec"])
    target = resolve(options["database_url"])
    with connect(target, application="runbook status") as connection:
        try:
            catalog = read_catalog(
                connection, spec, ledger_schema=options["ledger_schema"], count=False
            )
        except psycopg.Error as error:
            raise RefusedError(
                f"The server answered with error {error.sqlstate}: {error.diag.message_primary}.",
                "Nothing was changed. Look at the server, then ask again.",
            ) from error
    state, lines = _told(catalog)
    if options["as_json"]:
        click.echo(json.dumps({"state": state, "exit_code": 0, **_as_json(catalog)}))
    click.echo(
        f"{click.style(f'{spec.name}: {state}', bold=True)} ({target.display})",
        err=options["as_json"],
    )
    for name, text in lines:
        click.echo(f"  {name:<14}{text}", err=options["as_json"])


def _told(catalog: Catalog) -> tuple[str, list[tuple[str, str]]]:
    """Return the state in a word or two, and what there is to say of it."""
    if catalog.unfinished:
        run = catalog.unfinished
        return ("at work" if run.at_work else "stopped"), list(_unfinished(run))
    if catalog.applied:
        entry = catalog.applied
        return "applied", [
            ("run", entry.run_id),
            ("applied", f"{entry.applied_at} by {entry.applied_by}, mode {entry.mode}"),
            ("next", "`runbook verify` asks its checks again"),
        ]
    if catalog.table is None:
        return "not there", [("next", "check that the URL names the right database")]
    return "not begun", [("next", "`runbook review`")]


def _unfinished(run: Unfinished) -> Iterator[tuple[str, str]]:
    yield "run", f"{run.run_id} of {run.migration}"
    yield "begun", f"{run.started_at} by {run.started_by}"
    yield "at work", run.at_work or "no"
    yield "phase", run.phase
    yield (
        "backfill",
        f"{run.blocks_done:,} of {run.blocks:,} blocks ({share(run.blocks_done, run.blocks)}), "
        f"{run.rows:,} rows updated and proved",
    )
    if run.phase == "backfill" and run.left_s is not None:
        yield "left", f"about {run.left_s:,.0f} s of backfill with one job, then the index"
    yield (
        "next",
        "wait, or interrupt it where it runs: it can be resumed"
        if run.at_work
        else "`runbook migrate` resumes it, `runbook rollback` takes it back",
    )


def _as_json(catalog: Catalog) -> dict[str, Any]:
    """Return what is known as plain data; the plan itself is left out."""
    run = catalog.unfinished
    return {
        "unfinished": {
            **{name: item for name, item in asdict(run).items() if name != "plan"},
            "blocks_done": run.blocks_done,
            "left_s": run.left_s,
        }
        if run
        else None,
        "applied": dict(asdict(catalog.applied)) if catalog.applied else None,
    }
