"""`migration.sql`: the change as Prisma runs it, on its empty shadow database and in development.

It must give the schema that the runbook gives, name by name: where it does not, `prisma migrate
dev` asks for a reset. So it is made from the plan's own statements, and it is the same file for
every database that has the same table: neither the number of rows nor the server's version is in
it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import LiteralString

from runbook import sql
from runbook.errors import UsageError
from runbook.facts import Catalog, Census
from runbook.plan import Options, Plan, build_plan
from runbook.plan.facts import as_planned
from runbook.plan.script import Part, in_a_line
from runbook.spec import Spec
from runbook.vocabulary import Phase, Role

_HEAD = """\
-- {heading}
-- The SQL that Prisma runs where it migrates by itself: on its shadow database, and in development.
-- Elsewhere `runbook migrate --prisma-dir` does the same, proves it, and records this file as run;
-- it refuses a file that was edited, by its checksum."""

_NOT_NULL: LiteralString = """\
DO $not_null$
DECLARE
    old text;
BEGIN
    FOR old IN
        SELECT conname FROM pg_constraint
        WHERE conrelid = {table}::regclass AND contype = 'n' AND starts_with(conname, {prefix})
    LOOP
        EXECUTE format('ALTER TABLE {quoted} RENAME CONSTRAINT %I TO %I',
                       old, {after} || substr(old, length({before}) + 1));
    END LOOP;
END
$not_null$"""


def migration_sql(spec: Spec, catalog: Catalog, plan: Plan) -> str:
    """Return the file. Raises `UsageError` for a plan that one transaction cannot hold."""
    canonical = canonical_plan(spec, catalog, plan)
    prepared = canonical.of_phase(Phase.PREPARE)
    if prepared:
        raise UsageError(
            f"{prepared[0].title}: PostgreSQL can use it only in a later "
            "transaction (55P04), and Prisma runs a file in one.",
            "Add the label by a migration of Prisma's own first, then export again.",
        )
    head = _HEAD.format(heading=in_a_line(spec.heading))
    return "\n\n".join([head, *map(str, _parts(canonical))]) + "\n"


def canonical_plan(spec: Spec, catalog: Catalog, plan: Plan) -> Plan:
    """Return a plan of the same facts for an empty table, in one transaction.

    The names of NOT NULL constraints, which PostgreSQL keeps since 18 only, are left out.
    """
    planned = as_planned(catalog, plan.facts)
    assert planned.table is not None
    named = tuple(one for one in planned.table.constraints if one.kind != "n")
    table = replace(planned.table, constraints=named)
    return build_plan(
        spec, replace(planned, table=table, census=_nothing(spec)), Options(mode="atomic")
    )


def _nothing(spec: Spec) -> Census:
    """Return the counts of a table without rows; `otherwise` is as good a default as any."""
    labels = spec.classify.labels if spec.classify else ()
    first = {spec.classify.otherwise: 1} if spec.classify else {}
    return Census(
        total=sum(first.values()),
        predicted=dict.fromkeys(labels, 0) | first,
        columns=(),
        groups=(),
        group_counts={},
        rules=(),
    )


def _parts(plan: Plan) -> Iterator[Part]:
    for one in plan.of_phase(Phase.ATOMIC):
        if one.role is Role.CHANGE:
            yield Part(sql=one.sql, comments=(one.title,))
    if plan.table_after != plan.table_before:
        relation = sql.name(plan.schema, plan.table_after)
        yield Part(
            sql=sql.render(
                _NOT_NULL,
                table=sql.named(plan.schema, plan.table_after),
                quoted=sql.raw(sql.text(relation).replace("%", "%%").replace("'", "''")),
                prefix=sql.value(plan.table_before + "_"),
                before=sql.value(plan.table_before),
                after=sql.value(plan.table_after),
            ),
            comments=("Rename NOT NULL constraints, which have names since PostgreSQL 18",),
        )
