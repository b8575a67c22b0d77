"""`runbook plan`: the plan as SQL or JSON on standard output."""

import json
from dataclasses import asdict, fields
from typing import Any

import click
import psycopg

from runbook.catalog import read_catalog
from runbook.database import connect, resolve
from runbook.errors import BlockedError, RefusedError
from runbook.plan import Options, blockers, build_plan, resumed_plan, review
from runbook.plan.script import script
from runbook.spec import load_spec
from runbook.vocabulary import Finding


def show_plan(options: dict[str, Any]) -> None:
    """Print the plan for a database. Raises `BlockedError` where there can be none."""
    spec = load_spec(options["spec"])
    chosen = Options(**{field.name: options[field.name] for field in fields(Options)})
    with connect(resolve(options["database_url"]), application="runbook plan") as connection:
        try:
            catalog = read_catalog(connection, spec, ledger_schema=options["ledger_schema"])
        except psycopg.Error as error:
            raise RefusedError(
                f"The server answered with error {error.sqlstate}: {error.diag.message_primary}.",
                "Nothing was changed. Look at the server, then run again.",
            ) from error
    if catalog.applied:
        click.echo(
            f"Already applied at {catalog.applied.applied_at} by run {catalog.applied.run_id}: "
            "nothing is to be done.",
            err=True,
        )
        if options["form"] == "json" or options["as_json"]:
            applied = asdict(catalog.applied)
            click.echo(json.dumps({"outcome": "already-applied", "run": applied}, default=dict))
        return
    findings: tuple[Finding, ...] = ()
    if catalog.unfinished:
        plan = resumed_plan(spec, catalog.unfinished, chosen.mode)
        click.echo("This is the plan of the unfinished run; see `runbook status`.", err=True)
    else:
        findings = review(spec, catalog, chosen)
        forbidding = blockers(findings)
        for finding in findings:
            if finding not in forbidding[:1]:  # the first ends the command, and is its error
                click.echo(f"{finding.level}: {finding.message} {finding.remedy}", err=True)
        if forbidding:
            first = forbidding[0]
            raise BlockedError(first.message, f"Nothing was changed. {first.remedy}")
        plan = build_plan(spec, catalog, chosen)
    assert catalog.table is not None
    if options["form"] == "json" or options["as_json"]:
        content = asdict(plan) | {
            "sha256": plan.sha256,
            "findings": [_finding(finding) for finding in findings],
        }
        click.echo(json.dumps(content, ensure_ascii=False, default=dict))
    else:
        click.echo(script(spec, plan, catalog.table), nl=False)


def _finding(finding: Finding) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(finding).items()}
