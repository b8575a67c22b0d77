"""Traps: better-fitting overloads of whatever the runbook's own SQL names, found by a parser.

An owner of no more than a schema plants functions, aggregates, operators, casts, types and
relations that leave a trace in the server's log when they are called, whatever becomes of the
transaction.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import postgast
from google.protobuf.json_format import MessageToDict
from psycopg import sql

TRACE = "runbook-trap"
"""What a trap writes into the server's log."""

TYPES = ["text", "varchar", "name", "oid", "int4", "int8", "jsonb", "numeric", "bool", '"char"',
         "float8", "timestamptz", "bytea", "regclass", "uuid", "text[]"]  # fmt: skip
DOMAINS = ["app.nick", "app.nick2"]
"""Domains over a type with functions of its own; a pair of one with the type itself."""
PAIRS = [*((one, one) for one in TYPES), *product(["text", "varchar", "name"], repeat=2),
         ("oid", "text"), ("oid", "name"), ("regclass", "text"), ("oid", "int4"), ("text", "int4"),
         ("text", "int8"), ("numeric", "int4"), ("numeric", "int8"), ("name", "text[]"),
         ("text", "text[]"), ("int8", "int4"), ("int4", "int8"), ("jsonb", "text"),
         *product(DOMAINS, [*DOMAINS, "app.nocase"])]  # fmt: skip


@dataclass
class Names:
    """What SQL names without a schema, or could find in another one."""

    functions: set[tuple[str, int]] = field(default_factory=set)
    """With their numbers of arguments."""
    operators: set[str] = field(default_factory=lambda: {"=", "<", ">", "<=", ">=", "<>", "~~"})
    types: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)

    def add(self, text: str) -> None:
        """Add what a text of SQL names; the bodies of its PL/pgSQL as well."""
        try:
            tree = MessageToDict(postgast.parse(_numbered(text)))
        except postgast.PgQueryError:
            return  # a part of a psql script, say
        self._walk(tree)

    def _walk(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._walk(item)
        if not isinstance(node, dict):
            return
        for key, found in node.items():
            kind = key.lower().replace("_", "")
            if not isinstance(found, dict):
                pass
            elif kind == "funccall":
                self.functions.add((_last(found["funcname"]), len(found.get("args", []))))
            elif kind == "aexpr":
                self.operators.add(_last(found["name"]))
            elif kind == "typename":
                self.types.add(_last(found.get("names", [])))
            elif kind == "rangevar":
                self.relations.add(found["relname"])
            elif kind in ("dostmt", "createfunctionstmt"):
                self._walk_body(found)
            self._walk(found)

    def _walk_body(self, statement: Any) -> None:
        """Add what PL/pgSQL executes."""
        for text in _strings(statement):
            if classifying := re.search(r"BEGIN\s+(SELECT .*?)\s+INTO NEW\.", text, re.DOTALL):
                self.add(classifying[1])  # what the parser of PL/pgSQL says of a trigger is no JSON
            elif "BEGIN" in text:
                body = sql.Literal(text).as_string(None)
                for query in _queries(postgast.parse_plpgsql(f"DO {body.strip()}")):
                    self.add(query if _is_statement(query) else f"SELECT {query}")


def _numbered(text: str) -> str:
    return text.strip().rstrip(";")


def _last(names: Iterable[Any]) -> str:
    found = [one["String"]["sval"] for one in names if "String" in one]
    return found[-1] if found else ""


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, item in node.items():
            if key == "sval" and isinstance(item, str):
                yield item
            else:
                yield from _strings(item)
    elif isinstance(node, list):
        for item in node:
            yield from _strings(item)


def _queries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, item in node.items():
            if key == "query" and isinstance(item, str):
                yield item
            else:
                yield from _queries(item)
    elif isinstance(node, list):
        for item in node:
            yield from _queries(item)


def _is_statement(query: str) -> bool:
    return bool(re.match(r"\s*(select|with|insert|update|delete|lock|set)\b", query, re.I))


def statements(log: str) -> Iterator[str]:
    """Yield the statements of a server's log (log_statement = all)."""
    entry = re.compile(
        r"^(?:LOG|.*? LOG):  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE
    )
    for found in entry.finditer(log):
        yield found[1].replace("\n\t", "\n")


def planted(names: Names, schema: str, enum: str) -> Iterator[str]:
    """Yield the statements that plant the traps, to be executed by the owner of a schema."""
    yield (
        f"CREATE FUNCTION {schema}.sprung(what text) RETURNS text LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE LOG '{TRACE} % by %', what, current_user; RETURN NULL; END $$"
    )
    for name, count in sorted(names.functions):
        if name not in _GRAMMAR:
            yield from _function(schema, name, count)
    for name in sorted(names.operators & _OPERATORS):
        yield from _operator(schema, name, enum)
    for source, target in product([enum], ["text", "varchar", "name", "int4", "json", "jsonb"]):
        made = f"cast_to_{target}"
        yield _trap(schema, made, [source], target, f"cast {source} to {target}")
        yield (
            f"CREATE CAST ({source} AS {target})"
            f" WITH FUNCTION {schema}.{made}({source}) AS IMPLICIT"
        )
    for name in sorted(names.types & _BASES):
        quoted = f'"{name}"'
        yield (
            f"CREATE DOMAIN {schema}.{quoted} AS pg_catalog.{quoted}"
            f" CHECK ({schema}.sprung('type {name}') IS NULL)"
        )
    for name in sorted(names.relations):
        if name.startswith("pg_"):
            yield (
                f"CREATE VIEW {schema}.{name} AS SELECT c.*, {schema}.sprung('relation {name}')"
                f" FROM pg_catalog.{name} c"
            )


_GRAMMAR = {"xmlexists", "timezone"}
"""Names that the grammar itself writes, always with pg_catalog's."""

_OPERATORS = {"=", "<>", "<", ">", "<=", ">=", "~~", "~", "~*", "!~", "!~*", "!~~", "||", "+", "-",
              "*", "/", "&", "->", "->>", "&&", "<@", "@>", "^@", "%"}  # fmt: skip
_BASES = {"text", "name", "oid", "int2", "int4", "int8", "jsonb", "numeric", "bool", "varchar",
          "regclass", "uuid", "bytea", "float8", "timestamptz"}  # fmt: skip


def _trap(schema: str, name: str, types: Iterable[str], result: str, what: str) -> str:
    arguments = ", ".join(types)
    return (
        f'CREATE FUNCTION {schema}."{name}"({arguments}) RETURNS {result} LANGUAGE plpgsql AS $$'
        f" BEGIN RAISE LOG '{TRACE} {what} by %', current_user; RETURN NULL; END $$"
    )


def _function(schema: str, name: str, count: int) -> Iterator[str]:
    combinations: list[tuple[str, ...]] = []
    if count == 0:
        combinations = [()]
    elif count == 1:
        combinations = [(one,) for one in (*TYPES, *DOMAINS[1:], "anyelement")]
    elif count == 2:
        combinations = [*PAIRS, ("anyelement", "anyelement"), ("anyelement", "int4")]
    else:
        combinations = [(one,) * count for one in ("text", "name", "anyelement")]
        combinations += [("text", *("anyelement",) * (count - 1))]
    for types in dict.fromkeys(combinations):
        yield _trap(schema, name, types, "text", f"function {name}")
    if count == 1 and name.endswith("out"):
        # A function that prints gives a `cstring`, which no language of an owner's makes.
        (domain, *_) = DOMAINS
        yield _trap(schema, f"{name}_of", ["text", domain], "text", f"aggregate {name}")
        yield (
            f'CREATE AGGREGATE {schema}."{name}"({domain})'
            f" (SFUNC = {name}_of, STYPE = text, FINALFUNC = textout)"
        )
    if count == 1 and name in _AGGREGATES:
        for one in ("interval", "json", "point"):
            transition = f"{name}_{one}"
            yield _trap(schema, transition, [one, one], one, f"aggregate {name}")
            yield f'CREATE AGGREGATE {schema}."{name}"({one}) (SFUNC = {transition}, STYPE = {one})'


_AGGREGATES = {"count", "sum", "min", "max", "jsonb_agg", "array_agg", "bool_and", "bool_or"}


def _operator(schema: str, name: str, enum: str) -> Iterator[str]:
    called = "operator_" + "".join(f"{ord(one):x}" for one in name)
    pairs = [*PAIRS, (enum, enum), (enum, "text"), ("tid", "tid"), ("varchar", "text[]")]
    for left, right in dict.fromkeys(pairs):
        yield _trap(schema, called, [left, right], "bool", f"operator {name.replace('%', '%%')}")
        yield (
            f"CREATE OPERATOR {schema}.{name} (LEFTARG = {left}, RIGHTARG = {right},"
            f" FUNCTION = {schema}.{called})"
        )
