"""Code of others on a table: what PostgreSQL would run, with the connected role's rights, for who
reads or changes its rows.

Triggers and rules run where rows are written; CHECK constraints, generated columns, index
expressions and predicates as well. That is not all: the planner evaluates what is constant in an
index, a statistics object or a partition key, so that a plain SELECT runs a function that its owner
declared IMMUTABLE (`eval_const_expressions` in PostgreSQL's plancat.c and relcache.c). So it is
looked for in the catalogs, before the first query on the table is planned, and again under its
lock.

Functions are found in the stored expressions themselves: `pg_depend` leaves out PostgreSQL's own,
some of which execute a text as SQL (`query_to_xml`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from runbook import sql
from runbook.errors import BlockedError
from runbook.facts import Act, OwnerCode
from runbook.trust.roles import is_trusted, owner_of_schema
from runbook.vocabulary import Finding, Level

EVERY_ACT = frozenset(Act)


def read_owner_code(
    connection: psycopg.Connection[Any],
    tables: Sequence[tuple[str, str]],
    *,
    ledger_schema: str,
    every_type: bool = False,
) -> tuple[OwnerCode, ...]:
    """Return the code of less privileged roles on tables, by schema and name; those that are not
    there have none. Reads PostgreSQL's own catalogs alone, and locks nothing else.

    With `every_type` also that of all the database's types, on whichever column or on none: a
    value of one that stands in a view or a policy is made where that is defined.
    """
    query = owner_code_query(tables, ledger_schema=ledger_schema, every_type=every_type)
    with connection.transaction(force_rollback=True):
        connection.execute(_PLANNING)
        found = connection.execute(query.encode()).fetchall()
    return tuple(
        OwnerCode(kind=kind, object=object_, function=function, owner=owner)
        for kind, object_, function, owner in found
    )


def owner_code_findings(
    code: Iterable[OwnerCode], role: str, *, acts: frozenset[Act], trusted: bool
) -> tuple[Finding, ...]:
    """Return what is to be said of the code that some acts have run as a role: that it forbids
    them, or, where it is trusted, that it runs."""
    return tuple(_finding(one, role, trusted=trusted) for one in code if one.runs_by(acts))


def _finding(one: OwnerCode, role: str, *, trusted: bool) -> Finding:
    what = f"{one.kind[:1].upper()}{one.kind[1:]} {one.object}"
    calls = f" calls {one.function}, and" if one.function else ""
    if trusted:
        return Finding(
            level=Level.WARNING,
            code="owner-code-trusted",
            object=one.object,
            message=f"{what}{calls} is code of role {one.owner!r}: where it runs, it has the "
            f"rights of {role!r}.",
            remedy="It is trusted by --trust-owner-code. What it does with them beyond this table "
            "is seen by nobody, this report included.",
        )
    return Finding(
        level=Level.BLOCKER,
        code="owner-code",
        object=one.object,
        message=f"{what}{calls} is code of role {one.owner!r}: it would run with the rights of "
        f"{role!r}.",
        remedy=f"Connect as {one.owner!r}, whose rights it has anyway; or pass --trust-owner-code, "
        "if you know what it does and that nobody changes it meanwhile.",
    )


def require_trust(
    code: Iterable[OwnerCode], role: str, *, acts: frozenset[Act], trusted: bool
) -> tuple[Finding, ...]:
    """Return the findings on code that is trusted. Raises `BlockedError` that names the first one
    where it is not."""
    found = owner_code_findings(code, role, acts=acts, trusted=trusted)
    if found and not trusted:
        more = (
            f" {len(found) - 1} more: {'; '.join(one.object for one in found[1:])}."
            if found[1:]
            else ""
        )
        raise BlockedError(found[0].message + more, f"Nothing was changed. {found[0].remedy}")
    return found


def owner_code_query(
    tables: Sequence[tuple[str, str]], *, ledger_schema: str, every_type: bool = False
) -> str:
    """Return the query behind `read_owner_code`: kind, object, function and owner."""
    return sql.render(
        _QUERY,
        schemas=sql.values(schema for schema, _ in tables),
        names=sql.values(name for _, name in tables),
        trusted=is_trusted("role", ledger_schema),
        schema_owner=owner_of_schema("n"),
        types=sql.value(_TYPES),
        more_types=sql.raw(_EVERY_TYPE if every_type else ""),
    )


_TYPES = r":(?!\w*typmod)\w*typ\w* (?:\(o )?([\d ]*\d)"
"""Finds the types that a stored expression names: `:vartype 25`, `:typid 25`, `:typeId 25`, or a
list, `:aggargtypes (o 25 25)`."""

_EVERY_TYPE = """
    UNION
    SELECT '', '', oid FROM pg_type WHERE oid >= 16384"""

# Its rows are far fewer than the planner thinks: 5 ms instead of 0.5 s.
_PLANNING = b"""\
SET LOCAL jit = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off"""

_QUERY = """\
WITH RECURSIVE tree (oid) AS (
    SELECT c.oid FROM unnest(ARRAY[{schemas}]::text[], ARRAY[{names}]::text[]) AS t (schema, name)
    JOIN pg_namespace n ON n.nspname = t.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
), relation (oid, author, said) AS (
    SELECT c.oid, c.relowner, format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid IN (
        SELECT oid FROM tree
        UNION
        -- What a foreign key would write to where a row that it refers to is updated.
        SELECT conrelid FROM pg_constraint JOIN tree ON confrelid = tree.oid
        WHERE contype = 'f' AND confupdtype NOT IN ('a', 'r'))
), stored (kind, said, author, tree, function, is_code) AS (
    SELECT 'trigger', format('%I on %s', g.tgname, r.said), r.author, g.tgqual::text, g.tgfoid,
           false
    FROM pg_trigger g JOIN relation r ON r.oid = g.tgrelid
    WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
    UNION ALL
    SELECT CASE w.ev_type WHEN '1' THEN 'view' ELSE 'rule' END,
           CASE w.ev_type WHEN '1' THEN r.said ELSE format('%I on %s', w.rulename, r.said) END,
           r.author, concat(w.ev_qual::text, w.ev_action::text), 0, true
    FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.ev_enabled <> 'D'
    UNION ALL
    SELECT 'CHECK constraint', format('%I on %s', k.conname, r.said), r.author, k.conbin::text, 0,
           false
    FROM pg_constraint k JOIN relation r ON r.oid = k.conrelid WHERE k.contype = 'c'
    UNION ALL
    SELECT 'constraint', format('%I on %s', k.conname, r.said), r.author, NULL, o.oprcode::oid,
           false
    FROM pg_constraint k JOIN relation r ON r.oid IN (k.conrelid, k.confrelid)
    JOIN pg_operator o
        ON o.oid = ANY (k.conexclop || k.conpfeqop || k.conppeqop || k.conffeqop)
    UNION ALL
    SELECT 'index', format('%I on %s', x.relname, r.said), r.author,
           concat(i.indexprs::text, i.indpred::text), 0, false
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN relation r ON r.oid = i.indrelid
    UNION ALL
    SELECT CASE a.attgenerated WHEN '' THEN 'default' ELSE 'generated column' END,
           format('%I of %s', a.attname, r.said), r.author, d.adbin::text, 0, false
    FROM pg_attrdef d JOIN relation r ON r.oid = d.adrelid
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    UNION ALL
    SELECT 'statistics object', format('%I on %s', s.stxname, r.said), r.author, s.stxexprs::text,
           0, false
    FROM pg_statistic_ext s JOIN relation r ON r.oid = s.stxrelid
    UNION ALL
    SELECT 'partition key', format('of %s', r.said), r.author, p.partexprs::text, 0, false
    FROM pg_partitioned_table p JOIN relation r ON r.oid = p.partrelid
    UNION ALL
    SELECT 'policy', format('%I on %s', p.polname, r.said), r.author,
           concat(p.polqual::text, p.polwithcheck::text), 0, false
    FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT 'event trigger', quote_ident(e.evtname), e.evtowner, NULL, e.evtfoid, false
    FROM pg_event_trigger e WHERE e.evtenabled <> 'D'
    UNION ALL
    -- Its server may answer with whatever code it likes.
    SELECT 'foreign table', r.said, r.author, NULL, 0, true
    FROM relation r JOIN pg_foreign_table f ON f.ftrelid = r.oid
), type (kind, said, oid) AS (
    -- With what names it; '' for a column.
    SELECT '', '', a.atttypid FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT kind, said, named.oid
    FROM stored, regexp_matches(tree, {types}, 'gi') AS matched,
        unnest(string_to_array(matched[1], ' ')::oid[]) AS named (oid){more_types}
    UNION
    -- Whatever a type is made of, and whatever the constraints of a domain name.
    SELECT type.kind, type.said, part.oid FROM type JOIN pg_type t ON t.oid = type.oid, LATERAL (
        SELECT unnest(ARRAY[t.typbasetype, t.typelem])
        UNION ALL
        SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT unnest(ARRAY[rngtypid, rngsubtype]) FROM pg_range
        WHERE t.oid IN (rngtypid, rngmultitypid)
        UNION ALL
        SELECT unnest(string_to_array(matched[1], ' ')::oid[]) FROM pg_constraint k,
            regexp_matches(k.conbin::text, {types}, 'gi') AS matched
        WHERE k.contypid = t.oid
    ) AS part (oid)
    WHERE t.oid >= 16384
), made (oid, author, said, fields) AS (
    -- A type of initdb's has an OID below 16384.
    SELECT t.oid, t.typowner, format('%I.%I', n.nspname, t.typname), t
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid >= 16384 AND t.oid IN (SELECT oid FROM type)
), attached (kind, said, author, tree, function, is_code) AS (
    SELECT * FROM stored
    UNION ALL
    SELECT 'domain', format('%I of %s', k.conname, m.said), m.author, k.conbin::text, 0, false
    FROM pg_constraint k JOIN made m ON m.oid = k.contypid
    UNION ALL
    SELECT 'domain', format('%s, its default', m.said), m.author, (m.fields).typdefaultbin::text, 0,
           false
    FROM made m
    UNION ALL
    SELECT 'range type', m.said, m.author, NULL, unnest(ARRAY[g.rngsubdiff, g.rngcanonical])::oid,
           false
    FROM made m JOIN pg_range g ON g.rngtypid = m.oid
    UNION ALL
    SELECT 'operator', format('%s of type %s', o.oprname, m.said), m.author, NULL, o.oprcode::oid,
           false
    FROM made m JOIN pg_operator o ON o.oprleft = m.oid AND o.oprright = m.oid
    WHERE (m.fields).typtype = 'b' AND (
        EXISTS (SELECT FROM pg_amop p JOIN pg_opclass c ON c.opcfamily = p.amopfamily
                WHERE p.amopopr = o.oid AND c.opcdefault AND c.opcintype = m.oid)
        OR o.oprname = '~~' AND o.oprnamespace = (m.fields).typnamespace)
), named (kind, said, author, function, is_code, is_direct, maker) AS (
    SELECT kind, said, author, function, is_code, true, NULL::oid FROM attached
    WHERE NOT (kind = 'range type' AND function = 0)
    UNION
    SELECT kind, said, author, matched[1]::oid, is_code, false, NULL
    FROM attached,
        regexp_matches(tree, ':(?:\\w*funcid|\\w*fnoid|tsmhandler) (\\d+)', 'g') AS matched
    UNION
    -- Whose it is may give it another negator at any time, and the planner calls that in its place.
    SELECT kind, said, author, o.oprcode::oid, is_code, false, o.oprowner
    FROM attached,
        regexp_matches(tree, ':(?:opnos?|eqop|sortop) (?:\\(o )?([\\d ]*\\d)', 'g') AS matched
    JOIN pg_operator o ON o.oid = ANY (string_to_array(matched[1], ' ')::oid[])
), told (kind, said, author, function, is_code, is_direct, maker) AS (
    SELECT * FROM named
    UNION
    -- What makes JSON looks for casts of the types that it is given, whoever has made them; of
    -- JSON_OBJECT and its like no function stands in the tree.
    SELECT a.kind, a.said, a.author, a.function, true, false, m.author
    FROM (
        SELECT n.kind, n.said, n.author, n.function
        FROM named n JOIN pg_proc p ON p.oid = n.function
        WHERE NOT n.is_direct AND p.provolatile <> 'i' AND p.proname ~ 'json'
        UNION ALL
        SELECT kind, said, author, 0 FROM attached WHERE tree ~ '\\{{JSONCONSTRUCTOREXPR'
    ) AS a
    LEFT JOIN type t ON a.kind = 'domain' OR (t.kind, t.said) = (a.kind, a.said)
    LEFT JOIN made m ON m.oid = t.oid
), opened (maker) AS (
    -- Who may create something in the table's schema, which is searched while its triggers fire.
    SELECT may.oid FROM pg_namespace n, LATERAL (
        SELECT {schema_owner}
        UNION ALL
        SELECT grantee FROM aclexplode(n.nspacl) WHERE privilege_type = 'CREATE'
            AND grantee <> n.nspowner
    ) AS may (oid)
    WHERE n.nspname = ANY (ARRAY[{schemas}]::text[]) AND EXISTS (
        SELECT FROM pg_trigger g JOIN tree ON tree.oid = g.tgrelid
        WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0)
), called (kind, said, author, function, is_code, is_direct, maker) AS (
    SELECT * FROM told
    UNION
    -- What a function without a path of its own finds there is whatever somebody put there: one of
    -- a trigger, and one that is called while a row is written.
    SELECT f.kind, f.said, f.author, p.oid, false, true, opened.maker
    FROM opened, (
        SELECT 'trigger', format('%I on %s', g.tgname, r.said), r.author, g.tgfoid
        FROM pg_trigger g JOIN relation r ON r.oid = g.tgrelid
        WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0
        UNION ALL
        SELECT 'expression', said, author, function FROM named
        WHERE kind <> ALL (ARRAY['view', 'event trigger']) AND NOT (kind = 'trigger' AND is_direct)
    ) AS f (kind, said, author, function)
    JOIN pg_proc p ON p.oid = f.function JOIN pg_language l ON l.oid = p.prolang
    WHERE l.lanname NOT IN ('internal', 'c') AND p.prosqlbody IS NULL
      AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS one WHERE one ~ '^search_path=')
), judged (oid, rolname, is_trusted) AS MATERIALIZED (
    SELECT role.oid, role.rolname, {trusted} FROM pg_roles role WHERE role.oid IN (
        SELECT author FROM called
        UNION SELECT maker FROM called
        UNION SELECT proowner FROM pg_proc WHERE oid IN (SELECT function FROM called))
)
SELECT DISTINCT c.kind, c.said AS object,
       concat(p.oid::regprocedure::text, CASE WHEN c.is_direct AND c.maker IS NOT NULL
           AND owner.is_trusted THEN ', which has no search_path of its own' END) AS function,
       CASE WHEN owner.is_trusted IS FALSE THEN owner.rolname
            WHEN c.maker IS NOT NULL AND maker.is_trusted IS NOT TRUE
            THEN coalesce(maker.rolname, 'PUBLIC')
            ELSE author.rolname END::text AS owner
FROM called c
JOIN judged author ON author.oid = c.author
LEFT JOIN judged maker ON maker.oid = c.maker
LEFT JOIN pg_proc p ON p.oid = c.function
LEFT JOIN judged owner ON owner.oid = p.proowner
WHERE CASE WHEN p.oid IS NULL THEN c.is_code AND (
        NOT author.is_trusted OR c.maker IS NOT NULL AND maker.is_trusted IS NOT TRUE)
    -- By its own kind it is refused already.
    WHEN c.kind = 'expression' AND NOT owner.is_trusted THEN false
    WHEN NOT owner.is_trusted OR c.maker IS NOT NULL AND maker.is_trusted IS NOT TRUE THEN true
    -- An expression of theirs that has a trusted function do something, execute a text as SQL, make
    -- a value of a type that it is told (`array_in`), or look for casts to JSON.
    WHEN c.is_direct OR c.kind = 'default' THEN false
    WHEN p.provolatile = 'v' AND p.proname <> ALL (ARRAY['clock_timestamp', 'timeofday', 'random'])
        OR p.proname ~ '_to_xml|^pg_input_' OR p.provolatile <> 'i' AND p.proname ~ 'json'
        OR ARRAY['cstring', 'internal']::regtype[] && p.proargtypes::oid[]::regtype[]
        THEN NOT author.is_trusted
    ELSE false END
ORDER BY 1, 2, 3"""
