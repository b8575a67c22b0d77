"""The review: everything that speaks against the migration, or that a person should know before."""

from collections.abc import Iterator
from dataclasses import replace

from runbook.facts import OLDEST, Catalog, Server, Table
from runbook.operations.base import blocker
from runbook.plan.build import choose_mode, steps
from runbook.plan.model import Options
from runbook.spec import Spec
from runbook.vocabulary import Finding, Level

UNEXPECTED = {"otherwise-exceeded"}
"""Findings that a strict run takes for blockers."""

_KINDS = {
    "f": "a foreign table",
    "v": "a view",
    "m": "a materialized view",
}


def review(
    spec: Spec, catalog: Catalog, options: Options, *, strict: bool = False
) -> tuple[Finding, ...]:
    """Return the findings, blockers first; without any blocker the plan can be made and run.

    A `strict` review takes what the spec did not expect for a blocker.
    """
    found = [_strictly(one) if strict else one for one in _findings(spec, catalog, options)]
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _strictly(finding: Finding) -> Finding:
    """Return a finding as a blocker where it says that the spec did not expect so."""
    if finding.code not in UNEXPECTED:
        return finding
    remedy = f"{finding.remedy} Raise what the spec expects, or run without --strict."
    return replace(finding, level=Level.BLOCKER, remedy=remedy)


def blockers(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that forbid the run."""
    return tuple(finding for finding in findings if finding.level is Level.BLOCKER)


def _findings(spec: Spec, catalog: Catalog, options: Options) -> Iterator[Finding]:
    yield from _server_findings(catalog)
    if catalog.server.is_too_old:
        return  # nothing else was read
    if catalog.table is None:
        yield _missing_table(spec, catalog)
        return
    yield from _table_findings(catalog.table)
    yield from _privilege_findings(catalog)
    course = list(steps(spec, catalog, catalog.table, options))
    for step in course:
        yield from step.operation.preconditions(step.scope)
    if catalog.census and choose_mode(course, options) == "online":
        if not catalog.server.sees_others:
            yield _blind(catalog.server)
        for step in steps(spec, catalog, catalog.table, options, online=True):
            yield from step.operation.online_preconditions(step.scope)


def _blind(server: Server) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="sessions-hidden",
        object=server.user,
        message=f"Role {server.user!r} does not see the sessions of other roles, nor how late "
        "replicas are.",
        remedy="The run cannot pause for them, and names whoever is in its way by pid alone: grant "
        "it pg_monitor (or pg_read_all_stats).",
    )


def _server_findings(catalog: Catalog) -> Iterator[Finding]:
    server = catalog.server
    if server.is_too_old:
        yield blocker(
            "server-too-old",
            server.name,
            f"The server is PostgreSQL {server.server_version}, and {OLDEST // 10_000} is the "
            "oldest that is supported.",
            "Upgrade the server first.",
        )
    if server.read_only:
        yield blocker(
            "read-only-server",
            server.name,
            "The server takes no writes: it is a replica, or sessions are read-only by default.",
            "Connect to the primary, or clear default_transaction_read_only for this role.",
        )


def _missing_table(spec: Spec, catalog: Catalog) -> Finding:
    object_ = f"{spec.schema_}.{spec.table}"
    there = catalog.relations.get(spec.table_after) if spec.table_after != spec.table else None
    return blocker(
        "table-missing",
        object_,
        f"Table {object_} is not there"
        + (
            f", but {there} {spec.schema_}.{spec.table_after} is, and no ledger entry says that "
            "the runbook made it."
            if there
            else f" in database {catalog.server.name!r}."
        ),
        "If something else migrated it, there is nothing to do here; otherwise check the database "
        "that the URL names."
        if there
        else "Check that the URL names the right database, and --spec the right migration: this is "
        f"{spec.name!r}.",
    )


def _table_findings(table: Table) -> Iterator[Finding]:
    object_ = f"{table.schema}.{table.name}"
    if table.kind not in "rp":
        yield blocker(
            "table-kind",
            object_,
            f"{object_} is {_KINDS.get(table.kind, 'of another kind')}, not an ordinary table.",
            "Name an ordinary table in the spec; other kinds are not supported.",
        )
    yield from _tree_findings(table, object_)
    for rule in table.rules:
        yield blocker(
            "rewrite-rule",
            rule,
            f"Rule {rule!r} rewrites statements on {object_}, so they may do something else.",
            "Drop or disable the rule for the time of the migration.",
        )
    if table.lacks_replica_identity:
        yield blocker(
            "no-replica-identity",
            object_,
            f"{object_} is published for updates and has no replica identity, so PostgreSQL "
            "refuses to update it.",
            "Give it a primary key, or set REPLICA IDENTITY FULL for the time of the migration.",
        )
    elif table.is_published_in_part:
        yield blocker(
            "published-in-part",
            object_,
            f"{object_} is published for updates by a list of columns, a row filter or without its "
            "generated columns, and that does not fit its replica identity, so PostgreSQL refuses "
            "to update it.",
            "Publish every column of its replica identity, and filter by these alone; or drop it "
            "from the publication for the time of the migration.",
        )
    if table.published:
        yield Finding(
            level=Level.WARNING,
            code="published",
            object=object_,
            message=f"{object_} is published, and replication carries neither a new column nor a "
            "new name to any subscriber: one that lacks them stops applying changes.",
            remedy="Give every subscriber the column and its type before the migration (online: "
            "before the expand), and the new name after it (online: after the cutover).",
        )
    if table.row_security_active:
        yield blocker(
            "row-security",
            object_,
            f"Row-level security hides rows of {object_} from the connected role.",
            "Connect as a role with BYPASSRLS, or as the owner without FORCE ROW LEVEL SECURITY.",
        )


def _tree_findings(table: Table, object_: str) -> Iterator[Finding]:
    """Yield what a table's place in an inheritance or partition tree forbids."""
    if table.parent is not None:
        yield blocker(
            "inheritance",
            object_,
            f"{object_} is a partition or an inheritance child of {table.parent}.",
            f"Name {table.parent} in the spec if all its partitions shall be migrated; children by "
            "INHERITS are not supported.",
        )
    if table.has_children:
        yield blocker(
            "inheritance",
            object_,
            f"Other tables inherit from {object_}, and what is done to it would reach their rows.",
            "Tables with children by INHERITS are not supported: turn them into partitions, or end "
            "the inheritance (ALTER TABLE … NO INHERIT) for the time of the migration.",
        )
    for partition in table.partitions:
        if partition.kind not in "rp":
            yield blocker(
                "partition-kind",
                f"{partition.schema}.{partition.name}",
                f"Partition {partition.name!r} is {_KINDS.get(partition.kind, 'no table')}.",
                "Detach it for the time of the migration.",
            )


def _privilege_findings(catalog: Catalog) -> Iterator[Finding]:
    if catalog.ledger_is_foreign:
        yield blocker(
            "ledger-foreign",
            f"{catalog.ledger_schema}.ledger",
            f"{catalog.ledger_schema}.ledger is there, but it is no ledger of the runbook, has "
            "triggers or rules, or belongs to a role that could run code as this one.",
            "Name another schema with --ledger-schema.",
        )
    for missing in catalog.missing_privileges:
        yield blocker(
            "privilege-missing",
            missing,
            f"Role {catalog.server.user!r} lacks {missing}.",
            "Grant it, or connect as a role that has it.",
        )
