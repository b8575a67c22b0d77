"""Reading the catalog: one read-only, repeatable-read snapshot into typed facts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
from pydantic import TypeAdapter

from runbook.catalog import queries
from runbook.catalog.census import read_census
from runbook.catalog.keys import read_keys
from runbook.catalog.ledger import read_applied, read_unfinished
from runbook.catalog.rows import Connection, plain_search_path, rows, snapshot
from runbook.catalog.sample import read_sample
from runbook.catalog.surroundings import read_pooler, read_surroundings
from runbook.catalog.written import written
from runbook.errors import RefusedError
from runbook.facts import (
    Act,
    Catalog,
    Column,
    Constraint,
    ForeignType,
    Grant,
    Index,
    OwnerCode,
    Part,
    Partition,
    Sequence,
    Server,
    Table,
    Trigger,
    TypeFacts,
)
from runbook.spec import Spec
from runbook.trust.holding import holding, require_known
from runbook.trust.ledger import ledger_problem, ledger_writers
from runbook.trust.owner_code import read_owner_code
from runbook.trust.settings import for_reading


def read_catalog(
    connection: Connection,
    spec: Spec,
    *,
    ledger_schema: str = "runbook",
    count: bool = True,
    trust_owner_code: bool = False,
    connect: Callable[[], Connection] | None = None,
    tell: Callable[[str, float], None] = lambda text, share: None,
) -> Catalog:
    """Return everything that the plan is made from, as of one moment.

    Reads only, in a transaction of its own that takes no lock which a reader or writer notices (see
    `hold_code`). The connection must not be in a transaction. Without `count` no row is read, and
    nothing around the table; nor is one where code of less privileged roles would run by that,
    unless it is trusted, nor anything of a ledger that must not be trusted. With `connect`, which
    opens another connection to the same place, a pooler between is looked for. `tell` is told what
    is read next, and how much is done, from 0 to 1. Raises `RefusedError` if the rules cannot be
    evaluated, and `BlockedError` if code has come to the table meanwhile.
    """
    tell("reading the table", 0.0)
    server = read_server(connection)
    if server.is_too_old:
        return _unread(server, ledger_schema)
    pooler = read_pooler(connection, connect) if connect else None
    names = [(spec.schema_, one) for one in dict.fromkeys([spec.table, spec.table_after])]
    held = holding(connection, names, ledger_schema=ledger_schema) if count else ()
    with snapshot(connection, held):
        table = read_table(connection, spec)
        privileges = missing_privileges(connection, table, ledger_schema)
        code = owner_code_of(connection, spec, ledger_schema)
        problem = ledger_problem(connection, ledger_schema)
        tell("counting the rows by the rules", 0.1)
        runs = any(one.runs_by(frozenset({Act.READ})) for one in code)
        count = count and (trust_owner_code or not runs)
        applied = None if problem else read_applied(connection, ledger_schema, spec)
        # What is applied is not planned again, and its rules may not fit the table any more.
        counts = count and _has_own_rows(table) and applied is None
        if counts and table is not None:
            # Nobody can add any that the queries on the rows would run.
            require_known(
                connection,
                [(table.schema, table.name)],
                ledger_schema=ledger_schema,
                known=set(map(str, code)),
            )
        census = _census(connection, spec, table, privileges) if counts else None
        tell("measuring a sample, and looking around", 0.8)
        catalog = Catalog(
            server=server,
            ledger_schema=ledger_schema,
            table=table,
            relations=_relations(connection, spec),
            types=read_types(connection, spec),
            missing_privileges=privileges,
            census=census,
            ledger_problem=problem,
            ledger_writers=() if problem else ledger_writers(connection, ledger_schema),
            owner_code=code,
            applied=applied,
            unfinished=None if problem else read_unfinished(connection, ledger_schema, spec),
            written=written(connection, table.oid) if table else None,
            reserved=_reserved(connection, table),
            sample=read_sample(connection, table) if table and census else None,
            pooler=pooler,
            surroundings=read_surroundings(connection, server, table) if count and table else None,
        )
    tell("read", 1.0)
    return catalog


def _has_own_rows(table: Table | None) -> bool:
    """Return whether a query on it reads its own rows alone: no view, no other server's, no
    heirs'."""
    return table is None or (table.kind in {"r", "p"} and not table.has_children)


def owner_code_of(connection: Connection, spec: Spec, ledger_schema: str) -> tuple[OwnerCode, ...]:
    """Return the code of less privileged roles on the migration's table, by either of its names:
    code that would run with the connected role's rights. A view of that name, such as the one that
    a run leaves, is none of it: it is not read."""
    tables = [(spec.schema_, name) for name in dict.fromkeys([spec.table, spec.table_after])]
    found = read_owner_code(connection, tables, ledger_schema=ledger_schema)
    return tuple(one for one in found if one.kind != "view")


def _unread(server: Server, ledger_schema: str) -> Catalog:
    """Return the catalog of a server whose own catalogs may differ from what is asked here."""
    return Catalog(
        server=server,
        ledger_schema=ledger_schema,
        table=None,
        relations={},
        types={},
        missing_privileges=(),
        census=None,
        ledger_problem="",
        applied=None,
    )


def read_server(connection: Connection) -> Server:
    """Return who answers, and as whom we are connected."""
    row = rows(connection, queries.SERVER)[0]
    may_identify = row.pop("may_identify")
    identifier = (
        rows(connection, queries.SYSTEM_IDENTIFIER)[0]["system_identifier"]
        if may_identify
        else None
    )
    info = connection.info
    host = info.host
    return Server(
        host=host,
        port=None if host.startswith("/") else info.port,
        system_identifier=identifier,
        **row,
    )


def read_table(connection: Connection, spec: Spec) -> Table | None:
    """Return the source table's facts, or None if it is not there."""
    return read_table_named(connection, spec.schema_, spec.table)


def read_table_named(connection: Connection, schema: str, name: str) -> Table | None:
    """Return a table's facts, or None if it is not there."""
    with plain_search_path(connection):
        names = {"schema": schema, "table": name}
        found = rows(connection, queries.TABLE, names)
        if not found:
            return None
        of = {"oid": found[0]["oid"]}
        return Table(
            schema=schema,
            name=name,
            columns=tuple(_column(row) for row in rows(connection, queries.COLUMNS, of)),
            constraints=tuple(Constraint(**r) for r in rows(connection, queries.CONSTRAINTS, of)),
            indexes=tuple(
                Index(**{**row, "columns": tuple(row["columns"])})
                for row in rows(connection, queries.INDEXES, of)
            ),
            sequences=tuple(Sequence(**r) for r in rows(connection, queries.SEQUENCES, of)),
            before_triggers=tuple(
                Trigger(**row) for row in rows(connection, queries.BEFORE_TRIGGERS, of)
            ),
            partitions=tuple(_partition(r) for r in rows(connection, queries.PARTITIONS, of)),
            grants=tuple(
                Grant(**{**row, "rights": tuple(row["rights"])})
                for row in rows(connection, queries.GRANTS, of)
            ),
            update_triggers=tuple(
                Trigger(**row) for row in rows(connection, queries.UPDATE_TRIGGERS, of)
            ),
            **{**found[0], **{key: tuple(found[0][key]) for key in _LISTS}},
        )


_LISTS = ("rules", "row_type_users", "partition_keys")


def _partition(row: dict[str, Any]) -> Partition:
    parts = {
        kind: tuple(Part(**one) for one in row[kind])
        for kind in ("indexes", "constraints", "triggers")
    }
    return Partition(
        **{**row, **parts, "parent": tuple(row["parent"]), "rules": tuple(row["rules"])}
    )


_FOREIGN = TypeAdapter(ForeignType)


def _column(row: dict[str, Any]) -> Column:
    foreign = row["foreign"]
    if foreign:
        row["foreign"] = _FOREIGN.validate_python(foreign)
    lists = {name: tuple(row[name]) for name in ("labels", "index_methods")}
    return Column(**row | lists)


def _census(
    connection: Connection, spec: Spec, table: Table | None, missing: tuple[str, ...]
) -> Any:
    """Return exact counts, or None where the table cannot be counted by the rules."""
    if (
        table is None
        or table.row_security_active
        or {table.kind, *(one.kind for one in table.partitions)} - {"r", "p"}
        or any(m.startswith(("SELECT", "USAGE")) for m in missing)
    ):
        return None
    columns = spec.classify.rule_columns() if spec.classify else ()
    if not all(table.column(name) for name in columns):
        return None
    try:
        with connection.transaction():
            connection.execute(for_reading().encode())
            census = read_census(connection, spec, table)
            return replace(census, keys=read_keys(connection, spec, table))
    except psycopg.errors.DataError as error:
        if any(True for _ in _unknown_values(spec, table)):
            return None  # the review names rule and value as a blocker
        raise RefusedError(
            f"The rules cannot be evaluated on {spec.schema_}.{spec.table}: "
            f"{error.diag.message_primary}.",
            "Nothing was changed. Correct the rule in the spec.",
        ) from None
    except (psycopg.errors.UndefinedFunction, psycopg.errors.FeatureNotSupported) as error:
        raise RefusedError(
            f"The rules cannot be evaluated on {spec.schema_}.{spec.table}: "
            f"{error.diag.message_primary}.",
            "Nothing was changed. Compare columns with values of their own type.",
        ) from None


def _unknown_values(spec: Spec, table: Table) -> Iterator[str]:
    """Yield values of the rules that are no label of the enum column they are compared with."""
    for rule in spec.classify.rules if spec.classify else ():
        for name, text in rule.when.compared():
            column = table.column(name)
            if column and column.labels and text not in column.labels:
                yield text


def missing_privileges(
    connection: Connection, table: Table | None, ledger_schema: str
) -> tuple[str, ...]:
    """Return what the role lacks, in the words of GRANT."""
    if table is None:
        return ()
    parts = {"oid": table.oid, "ledger": ledger_schema}
    return tuple(row["missing"] for row in rows(connection, queries.PRIVILEGES, parts))


def _relations(connection: Connection, spec: Spec) -> dict[str, str]:
    """Return the relations whose names the migration will need: name → kind in words."""
    names = [name for operation in spec.operations for name in operation.relation_names()]
    prefix = spec.table_after + "_" if spec.table_after != spec.table else "\x01"
    parts = {"schema": spec.schema_, "names": names, "prefix": prefix}
    return {row["name"]: row["kind"] for row in rows(connection, queries.RELATIONS, parts)}


def _reserved(connection: Connection, table: Table | None) -> frozenset[tuple[str, str, str]]:
    """Return who has a name of the kind that a run gives to its own helpers."""
    found = rows(connection, queries.RESERVED, {"oid": table.oid}) if table else []
    return frozenset((one["kind"], one["schema"], one["name"]) for one in found)


def read_types(connection: Connection, spec: Spec) -> dict[str, TypeFacts]:
    """Return the types whose names the migration uses; a table needs one for its rows, too."""
    names = {name for operation in spec.operations for name in operation.type_names()}
    return read_types_named(connection, spec.schema_, names | ({spec.table_after} - {spec.table}))


def read_types_named(
    connection: Connection, schema: str, names: Iterable[str]
) -> dict[str, TypeFacts]:
    """Return the types of these names that are there."""
    parts = {"schema": schema, "names": sorted(names)}
    return {
        row["name"]: TypeFacts(**{**row, "labels": tuple(row["labels"])})
        for row in rows(connection, queries.TYPES, parts)
    }
