"""What speaks against taking an applied run back: all of it at once, before anything is touched."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg

from runbook import sql
from runbook.catalog import missing_privileges, read_server
from runbook.facts import Act, Recorded, Table
from runbook.operations.base import blocker, note
from runbook.plan import Plan
from runbook.run.dropping import dropped
from runbook.run.wayback.dependents import dependents
from runbook.run.wayback.view import serving
from runbook.trust.ledger import REMEDY, ledger_problem
from runbook.trust.owner_code import owner_code_findings, read_owner_code
from runbook.vocabulary import Finding, Level, Made, Phase

Connection = psycopg.Connection[Any]

ROLLBACK_ACTS = frozenset({Act.READ, Act.DEFINE})
"""What a rollback does to the table: it writes no row."""


_HOSTS = {"alembic": "Alembic", "flyway": "Flyway", "liquibase": "Liquibase"}
"""Tools that run a script of the runbook's: as the ledger and as people call them."""


def staying(recorded: Recorded, plan: Plan) -> Iterator[Finding]:
    """Yield what no rollback can take back."""
    if recorded.entry.client in _HOSTS:
        yield note(
            "tool-history",
            plan.table_after,
            f"{_HOSTS[recorded.entry.client]} applied the run, and its history goes on to have it.",
            "Take it out there as well; or let that tool take the run back, if it can.",
        )
    before = plan.facts["types"]
    for name, labels in plan.extended.items():
        added = labels[len(before[name]["labels"]) :]
        yield Finding(
            level=Level.NOTE,
            code="labels-stay",
            object=f"{plan.schema}.{name}",
            message=f"Label {', '.join(added)} of type {name} stays: no PostgreSQL can take a "
            "label away.",
            remedy="Nothing is to be done: it is unused once the column is gone.",
        )


def obstacles(
    connection: Connection,
    recorded: Recorded,
    plan: Plan,
    table: Table | None,
    *,
    trust_owner_code: bool,
) -> tuple[Finding, ...]:
    """Return them, in the transaction that is open. `table` is the one of the recorded new name."""
    return (
        *_code(connection, recorded, plan, trusted=trust_owner_code),
        *_obstacles(connection, recorded, plan, table),
    )


def _code(
    connection: Connection, recorded: Recorded, plan: Plan, *, trusted: bool
) -> Iterator[Finding]:
    """Yield the code of less privileged roles that a rollback would run, or somebody else's
    ledger."""
    problem = ledger_problem(connection, recorded.ledger_schema)
    if problem:
        yield blocker("ledger-foreign", recorded.ledger_schema, problem, REMEDY)
    tables = [(plan.schema, plan.table_after)]
    found = read_owner_code(connection, tables, ledger_schema=recorded.ledger_schema)
    role = read_server(connection).user
    yield from owner_code_findings(found, role, acts=ROLLBACK_ACTS, trusted=trusted)


def _obstacles(
    connection: Connection, recorded: Recorded, plan: Plan, table: Table | None
) -> Iterator[Finding]:
    server = read_server(connection)
    if server.read_only:
        yield blocker(
            "read-only-server",
            server.name,
            "The server takes no writes: it is a replica, or sessions are read-only by default.",
            "Connect to the primary, or clear default_transaction_read_only for this role.",
        )
    name = f"{plan.schema}.{plan.table_after}"
    if table is None or table.oid != recorded.entry.table_oid:
        yield _another_table(connection, recorded, name, table)
        return
    yield from _later_runs(connection, recorded, table)
    yield from _table_findings(table, name)
    for missing in _missing(connection, recorded, plan, table):
        yield blocker(
            "privilege-missing",
            missing,
            f"Role {server.user!r} lacks {missing}.",
            "Grant it, or connect as a role that has it.",
        )
    yield from _gone(connection, plan, table)
    served = serving(connection, plan, table.oid)
    views = [one.name for one in map(dropped, served) if one and one.kind == "VIEW"]
    yield from _taken(connection, plan, table, views)
    for one in dependents(connection, plan, table.oid, served):
        yield blocker(
            "in-use",
            one.what,
            f"The {one.what} was built since on {one.on}, which the rollback drops.",
            "Drop it, or move it to something else, then roll back again.",
        )


def _another_table(
    connection: Connection, recorded: Recorded, name: str, table: Table | None
) -> Finding:
    """Return that the table is not the one that the run left."""
    oid = recorded.entry.table_oid
    found = connection.execute("SELECT oid::regclass::text FROM pg_class WHERE oid = %s", [oid])
    row = found.fetchone()
    now = f"is {row[0]} now" if row else "is gone"
    there = f", and another one, with OID {table.oid}, has its name" if table else ""
    return blocker(
        "table-differs",
        name,
        f"The table that the run left as {name} (OID {oid}) {now}{there}.",
        "A run is taken back only from the table that it changed. To undo it by hand, plan.sql of "
        "the run's report ends with the statements.",
    )


def _later_runs(connection: Connection, recorded: Recorded, table: Table) -> Iterator[Finding]:
    """Yield runs that came after it on the same table, applied or unfinished."""
    schema = recorded.ledger_schema
    runs: list[LiteralString] = [_LATER]
    there = connection.execute(
        "SELECT to_regclass(%s)", [sql.spelled(schema, "online_run")]
    ).fetchone()
    if there and there[0]:
        runs.append(_UNFINISHED)
    query = sql.render(
        "{runs}",
        runs=sql.join(
            "\nUNION ALL\n",
            [
                sql.compose(
                    text,
                    ledger=sql.name(schema, "ledger"),
                    rollback=sql.name(schema, "rollback"),
                    online=sql.name(schema, "online_run"),
                )
                for text in runs
            ],
        ),
    )
    parts = {"oid": table.oid, "run": recorded.entry.run_id}
    for run_id, migration, at in connection.execute(query.encode(), parts).fetchall():
        yield blocker(
            "later-run",
            run_id,
            f"Run {run_id} of migration {migration!r} has worked on the table since ({at}).",
            f"Take that one back first: `runbook rollback --spec` with the spec of {migration!r}.",
        )


_LATER: LiteralString = """\
SELECT l.run_id::text, l.migration, 'applied at ' || to_char(l.applied_at AT TIME ZONE 'UTC',
       'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM {ledger} l
WHERE l.table_oid = %(oid)s AND l.run_id <> %(run)s
  AND l.applied_at > (SELECT applied_at FROM {ledger} WHERE run_id = %(run)s)
  AND NOT EXISTS (SELECT FROM {rollback} r WHERE r.run_id = l.run_id)"""

_UNFINISHED: LiteralString = """\
SELECT run_id::text, migration, 'unfinished' FROM {online}
WHERE table_oid = %(oid)s AND ended_at IS NULL"""


def _table_findings(table: Table, name: str) -> Iterator[Finding]:
    if table.parent is not None or table.has_children:
        yield blocker(
            "inheritance",
            name,
            f"{name} is a child of {table.parent} by now."
            if table.parent
            else f"Other tables inherit from {name} by now.",
            "End the inheritance (ALTER TABLE … NO INHERIT, or DETACH PARTITION) for the time of "
            "the rollback.",
        )
    if table.row_security_active:
        yield blocker(
            "row-security",
            name,
            f"Row-level security hides rows of {name} from the connected role.",
            "Connect as a role with BYPASSRLS, or as the owner without FORCE ROW LEVEL SECURITY.",
        )


def _missing(connection: Connection, recorded: Recorded, plan: Plan, table: Table) -> Iterator[str]:
    """Yield what the role lacks, in the words of GRANT; it will update no row."""
    for missing in missing_privileges(connection, table, recorded.ledger_schema):
        if not missing.startswith("UPDATE "):
            yield missing
    made = [one for one in _made(plan) if one.kind == "type"]
    parts = {
        "schema": plan.schema,
        "types": [one.name for one in made],
        "rollback": sql.spelled(recorded.ledger_schema, "rollback"),
    }
    yield from (row[0] for row in connection.execute(_LACKING, parts).fetchall())


_LACKING: LiteralString = """\
SELECT format('ownership of type %%s', t.oid::regtype)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %(schema)s AND t.typname = ANY (%(types)s)
  AND NOT pg_has_role(t.typowner, 'USAGE')
UNION ALL
SELECT format('SELECT and INSERT on %%s', %(rollback)s::text)
WHERE NOT (has_table_privilege(%(rollback)s, 'SELECT')
           AND has_table_privilege(%(rollback)s, 'INSERT'))"""


def _made(plan: Plan) -> list[Made]:
    return [one.made for one in plan.of_phase(Phase.ROLLBACK) if one.made]


def _gone(connection: Connection, plan: Plan, table: Table) -> Iterator[Finding]:
    """Yield what the rollback would rename, count or fingerprint, and is not there any more."""
    wanted = [one for one in _made(plan) if one.before is not None or one.kind in _COUNTED]
    wanted += [Made(kind="column", name=one["name"]) for one in plan.facts["table"]["columns"]]
    parts = {
        "table": table.oid,
        "schema": plan.schema,
        "kinds": [one.kind for one in wanted],
        "names": [one.name for one in wanted],
    }
    for kind, name in connection.execute(_GONE, parts).fetchall():
        yield blocker(
            "gone",
            f"{plan.schema}.{name}",
            f"The {kind} {name!r} that the run left is gone from the table, or has another name.",
            "Make it again as it was, or give it that name back, then roll back again."
            + _added_again(plan, name if kind == "column" else ""),
        )


def _added_again(plan: Plan, name: str) -> str:
    """Return how a column that was there before the run is made again, and what that does not give
    back; '' for any other name."""
    columns = {one["name"]: one for one in plan.facts["table"]["columns"]}
    if name not in columns:
        return ""
    add = sql.render(
        "ALTER TABLE {table} ADD COLUMN {column}",
        table=sql.name(plan.schema, plan.table_after),
        column=name,
    )
    return (
        f" If its values may be lost: {add} {columns[name]['type']}; with the default and the "
        "constraints that it had. The rollback then says that rows were written since, and where "
        "the rules read the column, --discard-categories gives up the labels that they do not give "
        "any more."
    )


_COUNTED = ("column", "type")
"""What the rows are counted by before it goes; anything else of the run's own may be gone."""

_GONE: LiteralString = """\
SELECT kind, name FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS wanted (kind, name)
WHERE NOT CASE kind
    WHEN 'column' THEN EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = %(table)s AND attname = name AND NOT attisdropped)
    WHEN 'constraint' THEN EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = %(table)s AND conname = name)
    WHEN 'index' THEN EXISTS (
        SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = %(table)s AND c.relname = name)
    WHEN 'sequence' THEN EXISTS (
        SELECT FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype IN ('a', 'i')
            AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        WHERE d.refobjid = %(table)s AND c.relname = name AND c.relkind = 'S')
    WHEN 'type' THEN EXISTS (
        SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname = %(schema)s AND t.typname = name AND t.typtype = 'e')
    ELSE true END"""


def _taken(connection: Connection, plan: Plan, table: Table, views: list[str]) -> Iterator[Finding]:
    """Yield who has an old name by now; the run's own view goes before."""
    renamed = [one for one in _made(plan) if one.before is not None]
    parts = {
        "table": table.oid,
        "schema": plan.schema,
        "views": views,
        "kinds": [one.kind for one in renamed],
        "names": [one.name for one in renamed],
        "before": [one.before for one in renamed],
    }
    for kind, name, before, what in connection.execute(_TAKEN, parts).fetchall():
        yield blocker(
            "name-taken",
            f"{plan.schema}.{before}",
            f"The {kind} {name!r} was named {before!r}, and that name is taken by the {what}.",
            "Rename or drop that one, then roll back again.",
        )


_TAKEN: LiteralString = """\
SELECT w.kind, w.name, w.before, taken.what
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(before)s::text[]) AS w (kind, name, before)
CROSS JOIN LATERAL (
    SELECT pg_describe_object('pg_class'::regclass, c.oid, 0)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = w.before
      AND c.oid <> ALL (ARRAY(SELECT to_regclass(v)::oid FROM unnest(%(views)s::text[]) AS v))
      AND (w.kind <> 'constraint' OR EXISTS (
          SELECT FROM pg_constraint k WHERE k.conrelid = %(table)s AND k.conname = w.name
          AND k.contype IN ('p', 'u', 'x')))
    UNION ALL
    SELECT pg_describe_object('pg_type'::regclass, t.oid, 0)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE w.kind = 'table' AND n.nspname = %(schema)s AND t.typname = w.before AND t.typrelid = 0
      -- The name of an array type gives way by itself.
      AND t.typcategory <> 'A'
    UNION ALL
    SELECT pg_describe_object('pg_constraint'::regclass, k.oid, 0) FROM pg_constraint k
    WHERE w.kind = 'constraint' AND k.conrelid = %(table)s AND k.conname = w.before
) AS taken (what)"""
