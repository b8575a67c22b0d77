"""The review: everything that speaks against the migration, or that a person should know before."""

from collections.abc import Iterator
from dataclasses import replace

from runbook.facts import Catalog
from runbook.plan.build import choose_mode, steps
from runbook.plan.model import Options
from runbook.plan.review.activity import activity_findings
from runbook.plan.review.dependents import dependent_findings
from runbook.plan.review.server import connection_findings, replication_findings, server_findings
from runbook.plan.review.space import space_findings
from runbook.plan.review.table import (
    ledger_findings,
    missing_table,
    privilege_findings,
    table_findings,
)
from runbook.spec import Spec
from runbook.trust.owner_code import EVERY_ACT, owner_code_findings
from runbook.vocabulary import Finding, Level

UNEXPECTED = {"otherwise-exceeded"}
"""Findings that a strict run takes for blockers."""

OF_WHO_RUNS = {"privilege-missing", "read-only-server", "owner-code"}
"""Findings that forbid the run, and not the reading: somebody else may run it, from elsewhere."""


def review(
    spec: Spec,
    catalog: Catalog,
    options: Options,
    *,
    strict: bool = False,
    reading: bool = False,
) -> tuple[Finding, ...]:
    """Return the findings, blockers first; without any blocker the plan can be made and run.

    A `strict` review takes what the spec did not expect for a blocker. One for `reading` alone,
    by a role that may not write the table or on a replica, takes that for no blocker.
    """
    found = list(_findings(spec, catalog, options))
    if strict:
        found = [_strictly(one) for one in found]
    if reading and _only_reads(catalog):
        # What its reading has run forbids that, too: then nothing was counted.
        unread = {"owner-code"} if catalog.census is None else set()
        found = [one if one.code in unread else _for_reading(one) for one in found]
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _strictly(finding: Finding) -> Finding:
    """Return a finding as a blocker where it says that the spec did not expect so."""
    if finding.code not in UNEXPECTED:
        return finding
    remedy = f"{finding.remedy} Raise what the spec expects, or run without --strict."
    return replace(finding, level=Level.BLOCKER, remedy=remedy)


def _only_reads(catalog: Catalog) -> bool:
    """Return whether nobody could mean to run it so: on a replica, or by a role that may read the
    table and not write it."""
    missing = catalog.missing_privileges
    return catalog.server.read_only or (
        any(one.startswith("UPDATE ") for one in missing)
        and not any(one.startswith(("SELECT ", "USAGE ")) for one in missing)
    )


def _for_reading(finding: Finding) -> Finding:
    """Return a finding as a warning where it forbids the run alone."""
    if finding.code not in OF_WHO_RUNS or finding.level is not Level.BLOCKER:
        return finding
    return replace(
        finding,
        level=Level.WARNING,
        message=f"{finding.message} That is enough for a review, and not for the migration.",
    )


def blockers(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that forbid the run."""
    return tuple(finding for finding in findings if finding.level is Level.BLOCKER)


def _findings(spec: Spec, catalog: Catalog, options: Options) -> Iterator[Finding]:
    yield from server_findings(catalog)
    if catalog.server.is_too_old:
        return  # nothing else was read
    yield from ledger_findings(catalog)
    table, around = catalog.table, catalog.surroundings
    if table is None:
        yield missing_table(spec, catalog)
        return
    yield from table_findings(catalog, table)
    yield from privilege_findings(catalog)
    yield from owner_code_findings(
        catalog.owner_code,
        catalog.server.user,
        acts=EVERY_ACT,
        trusted=options.trust_owner_code,
    )
    course = list(steps(spec, catalog, table, options))
    for step in course:
        yield from step.operation.preconditions(step.scope)
    if around:
        yield from dependent_findings(spec, table, around, options)
        yield from activity_findings(table, around)
        yield from replication_findings(catalog, around)
    if catalog.census is None:
        return
    mode = choose_mode(course, spec, options)
    yield from connection_findings(catalog, mode)
    yield from space_findings(spec, catalog, course, mode, options)
    if mode == "online":
        for step in steps(spec, catalog, table, options, online=True):
            yield from step.operation.online_preconditions(step.scope)
