"""What was built since the run on something that its rollback would drop.

PostgreSQL refuses to drop what a view uses, but DROP COLUMN takes indexes, constraints and
statistics on the column with it and says nothing (docs, ALTER TABLE). So both kinds are looked for,
by what pg_depend says of them (docs, 52.18), and nothing is left to chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from runbook.plan import Plan
from runbook.run.dropping import dropped
from runbook.vocabulary import Phase, Statement


@dataclass(frozen=True, kw_only=True)
class Dependent:
    """Something that was built since."""

    what: str
    """Kind and name, as PostgreSQL describes it."""
    on: str
    """What it was built on: kind and name."""


def dependents(
    connection: psycopg.Connection[Any], plan: Plan, oid: int, serving: Sequence[Statement]
) -> tuple[Dependent, ...]:
    """Return what depends on what a rollback drops, be it on something in between.

    `serving` are the statements that remove the view under the old name and what serves it.
    """
    made = [one.made for one in plan.of_phase(Phase.ROLLBACK) if one.made]
    serves = [one for one in map(dropped, serving) if one]
    parts = {
        "table": oid,
        "schema": plan.schema,
        **{
            kind: [one.name for one in made if one.kind == kind and one.before is None]
            for kind in ("column", "index", "type")
        },
        **{
            kind.lower(): [one.name for one in serves if one.kind == kind]
            for kind in ("VIEW", "FUNCTION", "TRIGGER")
        },
    }
    rows = connection.execute(_DEPENDENTS, parts).fetchall()
    return tuple(Dependent(what=what, on=on) for what, on in rows)


_DEPENDENTS: LiteralString = """\
WITH RECURSIVE tree (oid) AS (
    SELECT %(table)s::oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
), dropped (classid, objid, objsubid) AS (
    SELECT 'pg_class'::regclass::oid, attrelid, attnum::int FROM pg_attribute
    WHERE attrelid IN (SELECT oid FROM tree) AND attname = ANY (%(column)s::text[])
      AND NOT attisdropped
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, 0 FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = ANY (%(index)s::text[]) AND c.relkind IN ('i', 'I')
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0 FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = %(schema)s AND t.typname = ANY (%(type)s::text[])
    UNION ALL
    SELECT 'pg_class'::regclass, to_regclass(name), 0 FROM unnest(%(view)s::text[]) AS name
    UNION ALL
    SELECT 'pg_proc'::regclass, to_regprocedure(name), 0 FROM unnest(%(function)s::text[]) AS name
    UNION ALL
    SELECT 'pg_trigger'::regclass, oid, 0 FROM pg_trigger
    WHERE tgrelid IN (SELECT oid FROM tree) AND tgname = ANY (%(trigger)s::text[])
), own (classid, objid, objsubid) AS (
    SELECT classid, objid, objsubid FROM dropped
    UNION
    -- PostgreSQL 18 knows NOT NULL as a constraint of the column.
    SELECT 'pg_constraint'::regclass::oid, k.oid, 0 FROM pg_constraint k JOIN dropped d
        ON d.classid = 'pg_class'::regclass AND d.objid = k.conrelid
        AND k.conkey = ARRAY[d.objsubid]::int2[]
    WHERE k.contype = 'n'
    UNION
    -- Parts: an array type, a view's rule, a partition's share of an index.
    SELECT d.classid, d.objid, d.objsubid FROM pg_depend d JOIN own o ON d.refclassid = o.classid
        AND d.refobjid = o.objid AND (o.objsubid = 0 OR d.refobjsubid = o.objsubid)
    WHERE d.deptype IN ('i', 'P', 'S')
), found (classid, objid, objsubid, built_on, is_own, is_shown) AS (
    SELECT classid, objid, objsubid, pg_describe_object(classid, objid, objsubid), true, false
    FROM own
    UNION
    SELECT x.classid, x.objid, x.objsubid, f.built_on, false, d.deptype IN ('n', 'a')
    FROM found f
    JOIN pg_depend d ON d.refclassid = f.classid AND d.refobjid = f.objid
        AND (f.objsubid = 0 OR d.refobjsubid = f.objsubid)
        -- What goes with a dependent without asking need not be named beside it.
        AND (f.is_own OR d.deptype <> 'a')
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        AND r.ev_type = '1'
    LEFT JOIN pg_attrdef e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
    LEFT JOIN pg_class v ON d.classid = 'pg_class'::regclass AND v.oid = d.objid
        AND v.relkind IN ('v', 'm')
    CROSS JOIN LATERAL (SELECT
        -- A view is named for its rule and its columns, and a column for its expression.
        CASE WHEN r.oid IS NULL AND e.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END,
        coalesce(r.ev_class, e.adrelid, d.objid),
        CASE WHEN r.oid IS NULL AND v.oid IS NULL THEN coalesce(e.adnum, d.objsubid) ELSE 0 END
    ) AS x (classid, objid, objsubid)
    WHERE NOT EXISTS (SELECT FROM own o WHERE o.classid = x.classid AND o.objid = x.objid
                      AND (o.objsubid = 0 OR o.objsubid = x.objsubid))
), replica (what, built_on) AS (
    SELECT 'replica identity of ' || pg_describe_object('pg_class'::regclass, i.indrelid, 0),
           pg_describe_object(o.classid, o.objid, 0)
    FROM own o JOIN pg_index i ON o.classid = 'pg_class'::regclass AND i.indexrelid = o.objid
    WHERE i.indisreplident
)
SELECT pg_describe_object(classid, objid, objsubid) AS what, min(built_on)
FROM found WHERE is_shown GROUP BY 1
UNION ALL SELECT what, built_on FROM replica ORDER BY 1"""
