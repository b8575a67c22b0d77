"""What the table is, and what the connected role may do with it."""

from collections.abc import Iterator

from runbook import sql
from runbook.facts import Catalog, Kind, Table
from runbook.operations.base import blocker, note, warning
from runbook.operations.trigger import OWN
from runbook.spec import Spec
from runbook.trust.ledger import REMEDY
from runbook.vocabulary import Finding

_DEFERRED = "INITIALLY DEFERRED"

_KINDS = {
    "f": "a foreign table",
    "v": "a view",
    "m": "a materialized view",
}


def missing_table(spec: Spec, catalog: Catalog) -> Finding:
    """Return that there is nothing to migrate, and what there is instead."""
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


def table_findings(catalog: Catalog, table: Table) -> Iterator[Finding]:
    """Yield what the table is, and what that forbids."""
    object_ = f"{table.schema}.{table.name}"
    if table.kind not in "rp":
        yield blocker(
            "table-kind",
            object_,
            f"{object_} is {_KINDS.get(table.kind, 'of another kind')}, not an ordinary table.",
            "Name an ordinary table in the spec; other kinds are not supported.",
        )
    yield from _tree_findings(table, object_)
    yield from _state_findings(catalog, table, object_)
    yield from _published_findings(table, object_)
    if catalog.unfinished is None:
        yield from _left_behind(table, object_)
    for rule in table.rules:
        yield blocker(
            "rewrite-rule",
            rule,
            f"Rule {rule!r} rewrites statements on {object_}, so they may do something else.",
            "Drop or disable the rule for the time of the migration.",
        )
    if table.row_security_active:
        yield blocker(
            "row-security",
            object_,
            f"Row-level security hides rows of {object_} from the connected role.",
            "Connect as a role with BYPASSRLS, or as the owner without FORCE ROW LEVEL SECURITY.",
        )


def _state_findings(catalog: Catalog, table: Table, object_: str) -> Iterator[Finding]:
    """Yield what state the table and its indexes are in."""
    if catalog.census is not None and catalog.census.total == 0:
        yield note(
            "table-empty",
            object_,
            f"{object_} has no rows.",
            "Check that the URL names the database that you mean.",
        )
    if table.persistence == "u":
        yield warning(
            "unlogged",
            object_,
            f"{object_} is UNLOGGED: what the migration writes does not survive a crash.",
            "If its rows matter, ALTER TABLE … SET LOGGED first; it rewrites the table.",
        )
    for index in table.indexes:
        if not index.valid:
            yield warning(
                "index-invalid",
                index.name,
                f"Index {index.name!r} is invalid, before the migration already.",
                "REINDEX INDEX CONCURRENTLY it, or drop it.",
            )
    yield from _deferred_findings(catalog, table, object_)


def _deferred_findings(catalog: Catalog, table: Table, object_: str) -> Iterator[Finding]:
    """Yield what waits for the end of a transaction: constraints, and constraint triggers."""
    around = catalog.surroundings
    triggers = around.of_kind(Kind.TRIGGER) if around else ()
    deferred = [
        *(one.name for one in table.constraints if _DEFERRED in one.definition),
        *(one.name for one in triggers if one.enabled and _DEFERRED in one.detail),
    ]
    if deferred:
        yield note(
            "deferred-triggers",
            object_,
            f"{', '.join(map(repr, deferred))} is checked, or fires, at the end of a transaction.",
            "Nothing is to be done: the plan has them come at once (SET CONSTRAINTS ALL "
            "IMMEDIATE).",
        )


def _left_behind(table: Table, object_: str) -> Iterator[Finding]:
    """Yield triggers of a run that the ledger knows nothing of."""
    own = [one for one in table.before_triggers if one.name.startswith(OWN)]
    if not own:
        return
    relation = sql.name(table.schema, table.name)
    functions = {one.definition.rpartition("EXECUTE FUNCTION ")[2]: None for one in own}
    removing = [
        *(
            sql.render("DROP TRIGGER {name} ON {table}", name=one.name, table=relation)
            for one in own
        ),
        *(f"DROP FUNCTION {function}" for function in functions),
    ]
    yield blocker(
        "run-left-behind",
        object_,
        f"{object_} has {', '.join(repr(one.name) for one in own)} of an online run that no ledger "
        "here knows: its ledger was removed, or not restored with the table.",
        "Restore the ledger, or name its schema with --ledger-schema, and resume or roll back; "
        "else remove what the run left, and its column last: " + "; ".join(removing) + ".",
    )


def _published_findings(table: Table, object_: str) -> Iterator[Finding]:
    """Yield what a publication forbids, or asks of its subscribers."""
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
        yield warning(
            "published",
            object_,
            f"{object_} is published, and replication carries neither a new column nor a "
            "new name to any subscriber: one that lacks them stops applying changes.",
            "Give every subscriber the column and its type before the migration (online: "
            "before the expand), and the new name after it (online: after the cutover).",
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


def ledger_findings(catalog: Catalog) -> Iterator[Finding]:
    """Yield that the ledger must not be trusted."""
    if catalog.ledger_problem:
        yield blocker("ledger-foreign", catalog.ledger_schema, catalog.ledger_problem, REMEDY)


def privilege_findings(catalog: Catalog) -> Iterator[Finding]:
    """Yield what the connected role lacks."""
    for missing in catalog.missing_privileges:
        yield blocker(
            "privilege-missing",
            missing,
            f"Role {catalog.server.user!r} lacks {missing}.",
            "Grant it, or connect as a role that has it.",
        )
