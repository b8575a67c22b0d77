"""`runbook plan`: the plan as SQL or JSON on standard output."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import psycopg

from runbook.catalog import read_catalog
from runbook.cli.terminal import say, say_json, write
from runbook.database import connect, resolve
from runbook.errors import BlockedError, RefusedError, UsageError
from runbook.facts import Catalog, Table
from runbook.plan import Options, Plan, blockers, build_plan, resumed_plan, review
from runbook.plan.applied import why_unproved
from runbook.plan.script import script
from runbook.spec import Spec, load_spec
from runbook.visible import visible
from runbook.vocabulary import Finding, Level


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and what it was made from."""

    spec: Spec
    catalog: Catalog
    plan: Plan
    findings: tuple[Finding, ...]

    @property
    def table(self) -> Table:
        """The table that the plan is for."""
        assert self.catalog.table is not None
        return self.catalog.table


def show_plan(options: dict[str, Any]) -> None:
    """Print the plan for a database. Raises `BlockedError` where there can be none."""
    chosen = Options(**{field.name: options[field.name] for field in fields(Options)})
    form = "json" if options["as_json"] else options["form"]
    if form in _HOSTED:
        chosen = _atomic(chosen, form)
    spec = load_spec(options["spec"])
    catalog = _catalog(options["database_url"], spec, options["ledger_schema"])
    if catalog.applied:
        why = why_unproved(catalog.applied, catalog.ledger_writers)
        say(
            f"Already applied at {catalog.applied.applied_at} by run {catalog.applied.run_id}: "
            f"nothing is to be done.{f' That is what the ledger says, and {why}.' if why else ''}",
            err=True,
        )
        if form == "json":
            say_json({"outcome": "already-applied", "run": catalog.applied.content})
        return
    write(_FORMS[form](_plan(spec, catalog, chosen)))


def planned(database_url: str, spec_name: str, ledger_schema: str, chosen: Options) -> Planned:
    """Return the plan for a database, for who exports it: warnings are told on standard error, the
    notes are the review's.

    Raises `BlockedError` where there can be none, and `RefusedError` where it is applied.
    """
    spec = load_spec(spec_name)
    catalog = _catalog(database_url, spec, ledger_schema)
    if catalog.applied:
        raise RefusedError(
            f"{spec.heading} was applied at {catalog.applied.applied_at} by run "
            f"{catalog.applied.run_id}: there is nothing to export.",
            "Export from a database that is not migrated yet, such as a copy of it from before.",
        )
    return _plan(spec, catalog, chosen, untold=Level.NOTE)


def _catalog(database_url: str, spec: Spec, ledger_schema: str) -> Catalog:
    with connect(resolve(database_url), application="runbook plan") as connection:
        try:
            return read_catalog(connection, spec, ledger_schema=ledger_schema)
        except psycopg.Error as error:
            raise RefusedError(
                f"The server answered with error {error.sqlstate}: {error.diag.message_primary}.",
                "Nothing was changed. Look at the server, then run again.",
            ) from error


def _plan(spec: Spec, catalog: Catalog, chosen: Options, *, untold: Level | None = None) -> Planned:
    """Return the plan, or that of the unfinished run, and tell the findings but of one level."""
    if catalog.unfinished:
        plan = resumed_plan(spec, catalog, chosen.mode)
        say("This is the plan of the unfinished run; see `runbook status`.", err=True)
        return Planned(spec=spec, catalog=catalog, plan=plan, findings=())
    findings = review(spec, catalog, chosen)
    forbidding = blockers(findings)
    for finding in findings:
        # The first blocker ends the command, and is its error.
        if finding not in forbidding[:1] and finding.level is not untold:
            say(f"{finding.level}: {finding.message} {finding.remedy}", err=True)
    if forbidding:
        first = forbidding[0]
        raise BlockedError(first.message, f"Nothing was changed. {first.remedy}")
    plan = build_plan(spec, catalog, chosen)
    return Planned(spec=spec, catalog=catalog, plan=plan, findings=findings)


def _atomic(chosen: Options, tool: str) -> Options:
    """Return the options of a plan for a tool that runs a file in one transaction."""
    if chosen.mode == "online":
        raise UsageError(
            f"{tool.capitalize()} runs a file in one transaction, and the online mode takes many.",
            "Leave out --mode; or let `runbook migrate --mode online` run it.",
        )
    return replace(chosen, mode="atomic")


def _as_sql(found: Planned) -> str:
    return script(found.spec, found.plan, found.table)


def _as_json(found: Planned) -> str:
    content = asdict(found.plan) | {
        "sha256": found.plan.sha256,
        "findings": [
            {key: str(value) for key, value in asdict(finding).items()}
            for finding in found.findings
        ],
    }
    return visible(json.dumps(content, ensure_ascii=False, default=dict)) + "\n"


def _as_flyway(found: Planned) -> str:
    from runbook.export import flyway

    return flyway(found.spec, found.plan, found.table)


def _as_liquibase(found: Planned) -> str:
    from runbook.export import liquibase

    return liquibase(found.spec, found.plan, found.table)


_HOSTED = ("flyway", "liquibase")
"""Formats of tools that run the plan in a transaction of their own."""

_FORMS: Mapping[str, Callable[[Planned], str]] = {
    "sql": _as_sql,
    "json": _as_json,
    "flyway": _as_flyway,
    "liquibase": _as_liquibase,
}
