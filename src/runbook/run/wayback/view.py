"""The view that a run left under the old name and what serves it, as far as they are there."""

from typing import Any, LiteralString

import psycopg

from runbook.plan import Plan
from runbook.run.dropping import dropped
from runbook.run.online.contraction import left_to_drop
from runbook.vocabulary import Phase, Role, Statement


def serving(connection: psycopg.Connection[Any], plan: Plan, oid: int) -> tuple[Statement, ...]:
    """Return the recorded statements that remove what is still there of them.

    A view of that name that shows anything but the table's columns of before is somebody else's.
    """
    changes = [one for one in plan.of_phase(Phase.CONTRACT) if one.role is Role.CHANGE]
    return tuple(
        one
        for one in left_to_drop(connection, changes)
        if (view := dropped(one)) is None
        or view.kind != "VIEW"
        or _is_ours(connection, plan, oid, view.name)
    )


def _is_ours(connection: psycopg.Connection[Any], plan: Plan, oid: int, view: str) -> bool:
    columns = [column["name"] for column in plan.facts["table"]["columns"]]
    parts = {"view": view, "columns": columns, "table": oid}
    row = connection.execute(_OURS, parts).fetchone()
    return row == (True,)


_OURS: LiteralString = """\
SELECT ARRAY(SELECT attname::text FROM pg_attribute
             WHERE attrelid = to_regclass(%(view)s) AND attnum > 0 ORDER BY attnum)
           = %(columns)s::text[]
   AND ARRAY(SELECT DISTINCT d.refobjid FROM pg_rewrite r JOIN pg_depend d
                 ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
             WHERE r.ev_class = to_regclass(%(view)s) AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid <> r.ev_class) = ARRAY[%(table)s::oid]"""
