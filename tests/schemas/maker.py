"""Drawing a schema: the table, its rows and the spec; what hangs on it is drawn by others."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from runbook.spec import Spec
from tests.conftest import Database
from tests.schemas.columns import KINDS, NAMES, TYPES, Column, Kind, quoted
from tests.schemas.extras import Extras

TABLES = ("logs", "Order", "user", "select", 'ta"ble', "my logs", "журнал", "l" * 50, "a", "x's")
RENAMED = ("zz_new", "Zz New", 'zz"new', "новая", "zz" * 20)
"""New names: none of them is part of anything else in the schema."""

LONGEST = "zz-" + "ü" * 30
"""One after which nothing can stand."""

LABELS = ("ONE", "it's", 'a "b"', "日本", "100 %", "back\\slash", "x" * 63, " ")


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a server can do."""

    major: int
    parts: frozenset[str]
    """What it is built with: xml, icu, lz4."""

    @classmethod
    def of(cls, database: Database) -> "Server":
        """Ask the server of a database."""
        questions = {
            "xml": "SELECT '<a/>'::xml::text",
            "icu": "CREATE COLLATION probe (provider = icu, locale = 'und')",
            "lz4": "SET default_toast_compression = lz4",
        }
        parts = {part for part, question in questions.items() if _works(database, question)}
        return cls(major=database.major, parts=frozenset(parts))


def _works(database: Database, statement: str) -> bool:
    try:
        database.execute(statement)
    except Exception:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A database to be made, and the migration of its table."""

    statements: tuple[str, ...]
    spec: Spec
    online: bool
    """Whether to migrate it online, if the review accepts that."""


class Maker:
    """Draws a schema, part by part."""

    def __init__(self, draw: Any, server: Server) -> None:
        self.draw, self.server = draw, server
        self._names = list(NAMES)
        self.schema = self.pick(("public", "public", 'sch"ema'))
        self.table_name = self.pick(TABLES)
        self.table = f"{quoted(self.schema)}.{quoted(self.table_name)}"
        self.persistence = "UNLOGGED " if self.chance(5) else ""
        self.is_skewed = self.chance(60)
        """Whether most rows are alike, so that few of them are updated."""
        self.columns: list[Column] = []
        self.keys: tuple[str, ...] = ()
        """The columns of the primary key."""
        self.target = ""
        """A column of integers that a foreign key may refer to."""
        self.is_key_deferrable = False

    # -- drawing -------------------------------------------------------------------------------

    def chance(self, percent: int) -> bool:
        """Return True so often; False is the simpler case."""
        return bool(self.draw(st.integers(0, 99)) >= 100 - percent)

    def pick(self, items: Any) -> Any:
        """Return one of them; the first is the simplest."""
        return self.draw(st.sampled_from(items))

    def number(self, low: int, high: int) -> int:
        """Return a number between the two."""
        return int(self.draw(st.integers(low, high)))

    def name(self) -> str:
        """Return a name that was not drawn before."""
        chosen: str = self.pick(self._names)
        self._names.remove(chosen)
        return chosen

    def some(self, items: Any, most: int) -> list[Any]:
        """Return up to so many of them, each once."""
        if not items:
            return []
        return list(self.draw(st.lists(st.sampled_from(items), max_size=most, unique=True)))

    # -- the table -----------------------------------------------------------------------------

    def statements(self) -> list[str]:
        """Return what makes it all."""
        made = [] if self.schema == "public" else [f"CREATE SCHEMA {quoted(self.schema)}"]
        made += [one.replace("{schema}", quoted(self.schema)) for one in TYPES]
        if "icu" in self.server.parts:
            made.append(
                f"CREATE COLLATION {quoted(self.schema)}.folded"
                " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        self._add_keys()
        for _ in range(self.number(1, 8)):
            self._add_column()
        for _ in range(self.number(0, 2)):
            self._add_generated()
        return [*made, *self._table(), *Extras(self).statements()]

    def _add(self, definition: str, value: str | None, **rest: Any) -> str:
        name = self.name()
        column = Column(name=name, definition=definition, value=value, **rest)
        self.columns.insert(self.number(0, len(self.columns)), column)
        return name

    def _add_keys(self) -> None:
        way = self.pick(
            ("serial", "always", "by default", "bigserial", "uuid", "composite", "text", "none")
        )
        fixed: dict[str, Any] = {"is_null": False}
        if way in {"serial", "bigserial"}:
            self.keys = (self._add(way, "i", **fixed),)
        elif way in {"always", "by default"}:
            options = self.pick(("", " (START 1000 INCREMENT BY -7 MAXVALUE 5000 CYCLE)"))
            identity = f"bigint GENERATED {way.upper()} AS IDENTITY{options}"
            self.keys = (self._add(identity, "i", **fixed),)
        elif way == "uuid":
            default = "uuid DEFAULT gen_random_uuid()"
            self.keys = (self._add(default, "md5(i::text)::uuid", **fixed),)
        elif way == "composite":
            self.keys = (
                self._add("integer", "i % 3", **fixed),
                self._add("text", "i::text", **fixed),
            )
        elif way == "text":
            self.keys = (self._add("varchar(40)", "'Key ' || i", **fixed),)
        if way in {"serial", "bigserial", "always", "by default"}:
            self.target = self.keys[0]
        elif self.chance(30):
            self.target = self._add("integer NOT NULL UNIQUE", "i", **fixed)
        self.is_key_deferrable = bool(self.keys) and self.chance(10)

    def _add_column(self) -> None:
        kind: Kind = self.pick([one for one in KINDS if self._has(one)])
        definition = kind.type.replace("{schema}", quoted(self.schema))
        is_text = kind.type in {"text", "varchar(20)", "char(5)"}
        is_folded = is_text and "icu" in self.server.parts and self.chance(10)
        if is_text:
            definition += f" COLLATE {quoted(self.schema)}.folded" if is_folded else ""
            definition += ' COLLATE "C"' if not is_folded and self.chance(20) else ""
        if self.chance(20):
            definition += f" DEFAULT {kind.values[0]}"
        is_null = kind.type != "{schema}.word" and self.chance(70)
        if not is_null and self.chance(70):
            definition += " NOT NULL"
        self._add(
            definition,
            self._value(kind, is_null),
            kind=kind,
            is_null=is_null,
            is_doomed=bool(self.plain()) and self.chance(15),
            is_folded=is_folded,
        )

    def _has(self, kind: Kind) -> bool:
        return not kind.part or kind.part in self.server.parts

    def _value(self, kind: Kind, is_null: bool) -> str:
        """Return an expression that goes through the kind's values as `i` rises."""
        type_ = kind.type.replace("{schema}", quoted(self.schema))
        values = [f"({one})::{type_}" for one in (*kind.values, *(["NULL"] if is_null else []))]
        step, first = self.number(1, 5), self.number(0, 5)
        row = "CASE WHEN i % 6 = 0 THEN i / 6 ELSE 0 END" if self.is_skewed else "i"
        cases = " ".join(f"WHEN {n} THEN {value}" for n, value in enumerate(values))
        return f"CASE ({row} * {step} + {first}) % {len(values)} {cases} END"

    def _add_generated(self) -> None:
        texts = [one for one in self.plain() if one.kind and one.kind.type == "text"]
        numbers = [one for one in self.plain() if one.kind and one.kind.type == "integer"]
        stored = "STORED" if self.server.major < 18 else self.pick(("STORED", "VIRTUAL"))
        for found, type_, expression in (
            (texts, "text", "upper({}) || '!'"),
            (numbers, "bigint", "{}::bigint * 2"),
        ):
            if found and self.chance(50):
                source = quoted(self.pick(found).name)
                definition = f"GENERATED ALWAYS AS ({expression.format(source)}) {stored}"
                self._add(f"{type_} {definition}", None, is_generated=True)

    def plain(self) -> list[Column]:
        """Return the columns that stay and are of some kind."""
        return [one for one in self.columns if one.kind and not one.is_doomed]

    def _table(self) -> list[str]:
        """Return what makes the table, fills it and drops what is doomed."""
        lines = [f"{quoted(one.name)} {one.definition}" for one in self.columns]
        if self.keys:
            keys = ", ".join(map(quoted, self.keys))
            lines.append(f"PRIMARY KEY ({keys})" + " DEFERRABLE" * self.is_key_deferrable)
        given = [(quoted(one.name), one.value) for one in self.columns if one.value is not None]
        rows = self.pick((0, 1, 7, 40, 40, 60))
        names, values = (", ".join(part) for part in zip(*given, strict=True))
        return [
            f"CREATE {self.persistence}TABLE {self.table} (\n    " + ",\n    ".join(lines) + ")",
            f"INSERT INTO {self.table} ({names}) OVERRIDING SYSTEM VALUE\n"
            f"SELECT {values} FROM generate_series(1, {rows}) AS i",
            *(
                f"ALTER TABLE {self.table} DROP COLUMN {quoted(one.name)}"
                for one in self.columns
                if one.is_doomed and not one.is_generated
            ),
        ]

    # -- the spec ------------------------------------------------------------------------------

    def spec(self) -> Spec:
        """Return a migration that fits the table."""
        labels = [*self.some(LABELS, 4), "other", "rest"]
        column, type_ = self.name(), self.pick(("Kind of zz", "zz_kind"))
        after = LONGEST if self.chance(2) else self.pick(RENAMED)
        # In a dump a name with a quote looks otherwise where it stands in a literal.
        after = "zz'new" if "'" in self.table_name else after
        # The first tells rows apart, and each but the last has a label of its own.
        rules = [
            {"label": labels[n % (len(labels) - 1)], "when": self._condition(2 if n else 0)}
            for n in range(self.number(2, 4))
        ]
        indexed = [one.name for one in self.plain() if one.kind and one.kind.is_ordered]
        operations: list[dict[str, Any]] = [
            {"op": "create_enum", "name": type_, "labels": labels},
            {
                "op": "classify",
                "column": column,
                "type": type_,
                "rule": rules,
                "otherwise": self.pick((labels[-1], labels[0])),
            },
            {
                "op": "create_index",
                "name": self.pick((f"{after[:20]}_idx", "Zz Index")),
                "columns": [column, *self.some(indexed, 1)] if indexed else [column],
                "method": "btree",
            },
        ]
        operations.insert(self.number(0, 3), {"op": "rename_table", "to": after})
        return Spec.model_validate(
            {
                "name": "random",
                "schema": self.schema,
                "table": self.table_name,
                "operation": operations,
            }
        )

    def _condition(self, depth: int) -> dict[str, Any]:
        form = self.pick(("equals", "like", *(("is_null", "any", "all", "not") if depth else ())))
        if form in {"any", "all"}:
            return {form: [self._condition(depth - 1) for _ in range(self.number(1, 2))]}
        if form == "not":
            return {"not": self._condition(depth - 1)}
        columns = [*self.plain(), *(one for one in self.columns if one.is_generated)]
        comparable = [one for one in columns if one.kind and one.kind.equals]
        if form == "equals" and comparable:
            column = self.pick(comparable)
            return {"column": column.name, "equals": self.pick(column.kind.equals)}
        unfolded = [one for one in columns if not one.is_folded]
        if form == "like" and unfolded:
            pattern = self.pick(("%a%", "100 \\%", "_", "%1%", "%'%", ["a%", "%日%"]))
            return {"column": self.pick(unfolded).name, "like": pattern}
        chosen = self.pick([one for one in self.columns if not one.is_doomed])
        return {"column": chosen.name, "is_null": self.chance(50)}


@st.composite
def schemas(draw: Any, server: Server) -> Schema:
    """Return a schema for a server of this kind."""
    maker = Maker(draw, server)
    statements = maker.statements()
    return Schema(statements=tuple(statements), spec=maker.spec(), online=maker.chance(35))
