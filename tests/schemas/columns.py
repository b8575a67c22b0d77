"""Columns of random tables: every common type, with values of it at its edges."""

from dataclasses import dataclass
from typing import Any

NAMES = (
    "id", "state", "Upper", "select", "user", "order", "with space", 'quo"te', "it's", "ö", "日本",
    "per%cent", "dot.ted", "back\\slash", "$1", "{0}", "--x", "/*", "a" * 63, "ü" * 31 + "x", "new",
    "old", "label", "place", "hash", "rows", "changed", "runbook_before", "before", "after", "n",
    "c1", "given", "new_row", "found", "table", "value", "null", "wrong", "relation", "_", "E'",
    "source", "matches", "groups", "counted", "oid", "hashes", "category", "z9", "kind", "name",
)  # fmt: skip
"""Names that need quotes, are reserved, fill all 63 bytes, or are the product's SQL's own."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A type, and values of it as SQL; `{schema}` is the table's."""

    type: str
    values: tuple[str, ...]
    equals: tuple[Any, ...] = ()
    """What a rule may compare it with."""
    methods: str = "btree hash brin"
    """The index methods that take it as it is."""
    since: int = 15
    part: str = ""
    """What the server must be built with."""

    @property
    def is_ordered(self) -> bool:
        """Whether its values can be sorted."""
        return "btree" in self.methods


def _texts(type_: str, *more: str, methods: str = "btree hash brin", **rest: Any) -> Kind:
    values = ("''", "'a'", "'A'", "' a '", "'it''s'", "'100 %'", "'日本'", "E'b\\\\s'", *more)
    return Kind(
        type=type_, values=values, equals=("", "a", "it's", "日本"), methods=methods, **rest
    )


_INT = ("0", "7", "-1")
_POINTED = "gist spgist"

KINDS = (
    Kind(type="smallint", values=(*_INT, "32767", "-32768"), equals=(0, 7, -1)),
    Kind(type="integer", values=(*_INT, "2147483647", "-2147483648"), equals=(0, 7, -1)),
    Kind(type="bigint", values=(*_INT, "9223372036854775807"), equals=(0, 7, -1)),
    Kind(type="oid", values=("0", "7", "4294967295"), equals=(0, 7)),
    Kind(type="numeric", values=("1.0", "1.00", "'NaN'", "1e-30", "-1e30"), equals=(1, 1.0)),
    Kind(type="numeric(7,3)", values=("1.5", "-9999.999", "0"), equals=(1.5, 0)),
    Kind(type="numeric(3,-2)", values=("1200", "-99900", "0"), equals=(1200, 0)),
    Kind(type="numeric(2,5)", values=("0.00012", "-0.00099", "0"), equals=(0.00012,)),
    Kind(type="real", values=("1.1", "'-0'", "0", "'NaN'"), equals=(0, 1.1)),
    Kind(type="double precision", values=("1.1", "'-0'", "'-Infinity'", "1e-300"), equals=(0,)),
    Kind(type="money", values=("'1.00'", "'-3.50'"), equals=("1.00",), methods="btree"),
    Kind(type="boolean", values=("true", "false"), equals=(True, False), methods="btree hash"),
    _texts("text", "repeat('long ', 700)"),
    _texts("text", methods="btree hash brin spgist"),
    _texts("varchar(20)"),
    _texts("character varying"),
    _texts("char(5)"),
    _texts("bpchar"),
    _texts("name"),
    Kind(type='"char"', values=("'x'", "''", "'7'"), equals=("x",)),
    Kind(type="bytea", values=(r"'\x00ff'", "''", r"'\xdeadbeef'"), equals=(r"\x00ff",)),
    Kind(type="uuid", values=("md5('x')::uuid", f"'{'0' * 32}'"), equals=("0" * 32,)),
    Kind(type="date", values=("'2020-02-29'", "'infinity'", "'4713-01-01 BC'"),
         equals=("2020-02-29",)),
    Kind(type="time", values=("'24:00'", "'00:00:00.000001'"), equals=("24:00",)),
    Kind(type="timetz", values=("'12:00+02'", "'10:00+00'"), equals=("10:00+00",)),
    Kind(type="timestamp(3)", values=("'2020-01-01 00:00:00.123'", "'-infinity'")),
    Kind(type="timestamptz", values=("'2020-01-01 00:00+00'", "'294276-12-31 23:59:59+00'"),
         equals=("2020-01-01 00:00+00",)),
    Kind(type="interval", values=("'1 day'", "'24 hours'", "'-1 mon 3 days'"), equals=("1 day",)),
    Kind(type="interval year to month", values=("'14 mons'", "'-1 year'")),
    Kind(type="inet", values=("'10.0.0.1'", "'::1/128'", "'10.0.0.0/8'"), equals=("10.0.0.1",)),
    Kind(type="cidr", values=("'10.0.0.0/8'", "'::/0'")),
    Kind(type="macaddr", values=("'08:00:2b:01:02:03'",)),
    Kind(type="bit(4)", values=("B'1010'", "B'0000'"), equals=("1010",), methods="btree"),
    Kind(type="bit varying", values=("B''", "B'101'"), methods="btree"),
    Kind(type="json", values=("'{\"a\": 1, \"a\": 1.0}'", "'null'", "' [ ] '"), methods=""),
    Kind(type="jsonb", values=("'{\"n\": 1.00}'", "'null'", "'\"ü\"'"), equals=("null",),
         methods="btree hash gin"),
    Kind(type="xml", values=("'<a/>'", "'text'", "'<ü>&amp;</ü>'"), methods="", part="xml"),
    Kind(type="jsonpath", values=("'$.a[*]'",), methods=""),
    Kind(type="point", values=("'(1,2)'", "'(0,-0)'"), methods=_POINTED),
    Kind(type="box", values=("'((0,0),(1,1))'",), methods=_POINTED),
    Kind(type="circle", values=("'<(0,0),1>'",), methods="gist"),
    Kind(type="path", values=("'[(0,0),(1,1)]'", "'((0,0),(1,1))'"), methods=""),
    Kind(type="tsvector", values=("'a:1 b:2A'", "''"), methods="btree gin gist"),
    Kind(type="pg_lsn", values=("'16/B374D848'", "'0/0'"), equals=("0/0",)),
    Kind(type="integer[]", values=("'{1,NULL,3}'", "'{}'", "'[2:3]={4,5}'", "'{{1,2},{3,4}}'"),
         equals=("{1,NULL,3}",), methods="btree hash gin"),
    Kind(type="text[]", values=("'{}'", "ARRAY['a,b', '\"', NULL, '']"), equals=("{}",),
         methods="btree hash gin"),
    Kind(type="numeric[]", values=("'{1.0,2}'", "'{1.00,2}'"), methods="btree hash gin"),
    Kind(type="int4range", values=("'[1,5)'", "'empty'", "'(,)'"), equals=("[1,5)",),
         methods="btree hash gist spgist"),
    Kind(type="tstzrange", values=("'[2020-01-01 00:00+00,)'", "'empty'"),
         methods="btree hash gist"),
    Kind(type="int8multirange", values=("'{[1,3),[7,9)}'", "'{}'"), methods="btree hash gist"),
    Kind(type="{schema}.size", values=("'small'", "'it''s'", "'GROẞ'"), equals=("small", "it's"),
         methods="btree hash"),
    Kind(type="{schema}.size[]", values=("'{small,GROẞ}'", "'{}'"), methods="btree hash gin"),
    Kind(type="{schema}.word", values=("'a'", "'ab'"), equals=("a",)),
    Kind(type="{schema}.percent", values=("0", "100", "12.50"), equals=(100,)),
    Kind(type="{schema}.blank", values=("'a  '", "'b'"), equals=("a",)),
    Kind(type="{schema}.pair", values=("ROW(1.00, 'x')", "ROW(NULL, '')", "ROW(1.0, NULL)"),
         methods="btree"),
)  # fmt: skip

TYPES = (
    "CREATE TYPE {schema}.size AS ENUM ('small', 'it''s', 'GROẞ')",
    "CREATE DOMAIN {schema}.word AS text NOT NULL DEFAULT 'a' CHECK (length(VALUE) < 9)",
    "CREATE DOMAIN {schema}.percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100)",
    "CREATE DOMAIN {schema}.blank AS char(4)",
    "CREATE TYPE {schema}.pair AS (n numeric, t text)",
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table that is made."""

    name: str
    definition: str
    """What stands behind the name in CREATE TABLE."""
    value: str | None
    """Its value in row `i`, as SQL; None where the server gives it."""
    kind: Kind | None = None
    """None for columns of a fixed purpose."""
    is_null: bool = True
    """Whether it may hold NULL."""
    is_doomed: bool = False
    """Whether it is dropped again before the migration."""
    is_generated: bool = False
    is_folded: bool = False
    """Whether its collation takes different texts for equal."""


def quoted(name: str) -> str:
    """Return a name in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a literal."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
