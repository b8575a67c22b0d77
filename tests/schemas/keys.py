"""Indexes and constraints of a random table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.schemas.columns import Column, literal, quoted

if TYPE_CHECKING:
    from tests.schemas.maker import Maker

ROLES = ("reader 1", "Writer")
INTEGERS = {"smallint", "integer", "bigint"}

CHECKS = (
    "CHECK (({column} IS NULL) IN (true, false))",
    "CHECK (octet_length({column}::text) >= 0) NO INHERIT",
    "CHECK ({whole} IS NOT NULL OR true)",
)


class Keys:
    """Draws the roles, and what holds the rows in order."""

    def __init__(self, maker: "Maker") -> None:
        self.maker = maker
        self.table = maker.table
        self.schema = quoted(maker.schema)
        self._made = 0
        self._owner = ""
        """Who owns the table, where that is not who migrates it."""
        self._ordered = [c for c in maker.plain() if c.kind and c.kind.is_ordered]
        self._replica = "" if maker.is_key_deferrable or not maker.keys else "key"
        """What identifies a row to subscribers: its key, all of it, or nothing."""

    # -- parts ---------------------------------------------------------------------------------

    def _name(self) -> str:
        """Return a new name, quoted: one that carries the table's, or another."""
        self._made += 1
        prefix = f"{self.maker.table_name}_" if self.maker.chance(60) else ""
        stem = self.maker.pick(("x", "Ü b", 'q"', "y" * 40))
        name = f"{prefix}{self._made}{stem}"
        return quoted(name.encode()[:63].decode(errors="ignore"))

    def _column(self) -> str:
        """Return a column that stays."""
        staying = [one for one in self.maker.columns if not one.is_doomed and one.value]
        return quoted(self.maker.pick(staying).name)

    def _alter(self, change: str) -> str:
        return f"ALTER TABLE {self.table} {change}"

    def _role(self) -> str:
        return self.maker.pick(("PUBLIC", *map(quoted, ROLES)))  # type: ignore[no-any-return]

    def _roles(self) -> Iterator[str]:
        """Yield what makes the roles, which all databases of a server share."""
        for role in ROLES:
            yield (
                f"DO $$ BEGIN IF to_regrole({literal(quoted(role))}) IS NULL THEN"
                f" CREATE ROLE {quoted(role)}; END IF; END $$"
            )
        if self.maker.chance(20):
            self._owner = quoted(ROLES[1])
            yield f"GRANT CREATE, USAGE ON SCHEMA {self.schema} TO {self._owner}"
            yield self._alter(f"OWNER TO {self._owner}")

    # -- indexes -------------------------------------------------------------------------------

    def _indexes(self) -> Iterator[str]:
        for _ in range(self.maker.number(0, 4)):
            yield from self._index()

    def _index(self) -> Iterator[str]:
        name = self.maker.pick(("", self._name()))
        columns = [one for one in self.maker.plain() if one.kind and one.kind.methods]
        texts = [one for one in columns if one.kind and one.kind.type in {"text", "varchar(20)"}]
        form = self.maker.pick(("column", "method", "many", "partial", "expression", "whole"))
        end = ""
        if form == "expression" and texts:
            body = f"(lower({quoted(self.maker.pick(texts).name)}))"
        elif form == "whole":
            body = f"(({quoted(self.maker.table_name)} IS NULL))"
        elif form == "method" and columns:
            column: Column = self.maker.pick(columns)
            assert column.kind
            method = self.maker.pick(tuple(column.kind.methods.split()))
            operators = " inet_ops" * (method == "gist" and column.kind.type == "inet")
            body = f"{quoted(column.name)}{operators}"
            yield f"CREATE INDEX {name} ON {self.table} USING {method} ({body})"
            return
        elif not self._ordered:
            return
        else:
            order = self.maker.pick(("", " DESC", " NULLS FIRST", " DESC NULLS LAST"))
            chosen = self.maker.some([one.name for one in self._ordered], 3 * (form == "many"))
            chosen = chosen or [self.maker.pick(self._ordered).name]
            body = ", ".join(f"{quoted(one)}{order}" for one in chosen)
            if form == "many":
                end = f" INCLUDE ({self._column()})"
            elif form == "partial":
                end = f" WHERE {self._column()} IS NOT NULL"
        yield f"CREATE INDEX {name} ON {self.table} ({body}){end}"

    # -- constraints ---------------------------------------------------------------------------

    def _unique(self) -> Iterator[str]:
        columns = ", ".join(map(quoted, self.maker.keys or filter(None, [self.maker.target])))
        if not columns:
            return
        how = self.maker.pick(
            (
                f"UNIQUE ({columns})",
                f"UNIQUE NULLS NOT DISTINCT ({columns}) INCLUDE ({self._column()})",
                f"UNIQUE ({columns}) DEFERRABLE INITIALLY DEFERRED",
                "index",
            )
        )
        name = self._name()
        if how == "index":
            yield f"CREATE UNIQUE INDEX {name} ON {self.table} ({columns})"
            yield self._alter(f"ADD CONSTRAINT {self._name()} UNIQUE USING INDEX {name}")
        else:
            yield self._alter(f"ADD CONSTRAINT {name} {how}")

    def _exclusion(self) -> Iterator[str]:
        if self.maker.target:
            target = f"{quoted(self.maker.target)}::bigint"
            what = f"USING gist (int8range({target}, {target}, '[]') WITH &&)"
        elif len(self.maker.keys) == 1:
            what = f"USING hash ({quoted(self.maker.keys[0])} WITH =)"
        else:
            return
        when = self.maker.pick(("", " DEFERRABLE INITIALLY DEFERRED", " WHERE (true)"))
        yield self._alter(f"ADD CONSTRAINT {self._name()} EXCLUDE {what}{when}")

    def _check(self) -> Iterator[str]:
        check = self.maker.pick(CHECKS)
        whole = quoted(self.maker.table_name)
        body = check.format(column=self._column(), whole=whole)
        yield self._alter(f"ADD CONSTRAINT {self._name()} {body}")

    def _unvalidated(self) -> Iterator[str]:
        """Yield constraints that some rows violate."""
        if self.maker.target and self.maker.chance(70):
            yield f"CREATE TABLE {self.schema}.nothing (id bigint PRIMARY KEY)"
            yield self._alter(
                f"ADD FOREIGN KEY ({quoted(self.maker.target)})"
                f" REFERENCES {self.schema}.nothing NOT VALID"
            )
        else:
            yield self._alter(f"ADD CHECK ({self._column()} IS NULL) NOT VALID")

    def _foreign_keys(self) -> Iterator[str]:
        parent = f"{self.schema}.parent"
        yield f"CREATE TABLE {parent} (id numeric PRIMARY KEY)"
        integers = [c for c in self.maker.plain() if c.kind and c.kind.type in INTEGERS]
        ways = ("", " ON DELETE CASCADE", " MATCH FULL ON DELETE SET NULL ON UPDATE CASCADE")
        later = self.maker.pick(("", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"))
        for column in self.maker.some([one.name for one in integers], 2):
            name = quoted(column)
            yield f"INSERT INTO {parent} SELECT DISTINCT {name} FROM {self.table}" + (
                f" WHERE {name} IS NOT NULL ON CONFLICT DO NOTHING"
            )
            how = self.maker.pick(ways) + later
            yield self._alter(f"ADD FOREIGN KEY ({name}) REFERENCES {parent}{how}")
        if self._may_refer():
            name = quoted(self.maker.target)
            yield self._alter(
                f"ADD CONSTRAINT {self._name()} FOREIGN KEY ({name}) REFERENCES"
                f" {self.table} ({name}){later}"
            )

    def _may_refer(self) -> bool:
        """Return whether a foreign key may refer to the target."""
        is_key = self.maker.keys == (self.maker.target,)
        return bool(self.maker.target) and not (is_key and self.maker.is_key_deferrable)

    def _children(self) -> Iterator[str]:
        if not self._may_refer():
            return
        target = quoted(self.maker.target)
        child = f"{self.schema}.child"
        yield f"CREATE {self.maker.persistence}TABLE {child} (id serial PRIMARY KEY, ref bigint)"
        yield f"INSERT INTO {child} (ref) SELECT {target} FROM {self.table}"
        # A name that carries the table's, on another one: it stays.
        yield (
            f"ALTER TABLE {child} ADD CONSTRAINT {self._name()} FOREIGN KEY (ref)"
            f" REFERENCES {self.table} ({target}) ON DELETE CASCADE"
        )
