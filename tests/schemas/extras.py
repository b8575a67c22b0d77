"""What else hangs on a random table: triggers, views, rights, policies, options, comments."""

from collections.abc import Callable, Iterator

from tests.schemas.columns import literal, quoted
from tests.schemas.keys import ROLES, Keys

COMMENT = 'It\'s "said" in\ntwo lines: 日本 %s \\'

TRIGGERS = (
    "BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {row}()",
    "BEFORE UPDATE OF {column} ON {table} FOR EACH ROW EXECUTE FUNCTION {row}()",
    "BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)"
    " EXECUTE FUNCTION {row}()",
    "AFTER UPDATE OF {column} ON {table} FOR EACH ROW EXECUTE FUNCTION {row}()",
    "AFTER INSERT OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {row}()",
    "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT"
    " EXECUTE FUNCTION {row}()",
    "BEFORE INSERT OR UPDATE OR TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {row}()",
)


OPTIONS = (
    "SET (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false)",
    "SET (autovacuum_vacuum_scale_factor = 0.01, toast_tuple_target = 512)",
    "SET (parallel_workers = 2, log_autovacuum_min_duration = 0)",
)

COLUMN_OPTIONS = ("SET STORAGE EXTERNAL", "SET STORAGE MAIN", "SET COMPRESSION pglz")

VIEWS = (
    "VIEW {name} AS SELECT * FROM {table}",
    "VIEW {name} WITH (security_barrier, security_invoker) AS"
    " SELECT t.{column} AS x, t AS whole FROM {table} AS t WHERE t.{column} IS NOT NULL",
    "MATERIALIZED VIEW {name} AS SELECT count(*) AS n, count({column}) AS m FROM {table}",
    "MATERIALIZED VIEW {name} AS SELECT {column} FROM {table} WITH NO DATA",
)

FUNCTIONS = (
    "count_{n}({table}) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC"
    " SELECT count({column}) FROM {table}; END",
    "none_{n}() RETURNS SETOF {table} LANGUAGE plpgsql AS 'BEGIN RETURN; END'",
)

GRANTS = (
    "SELECT ON {table} TO {role}",
    "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON {table} TO {named}"
    " WITH GRANT OPTION",
    "SELECT ({column}), UPDATE ({column}) ON {table} TO {role}",
    "INSERT ({column}), REFERENCES ({column}) ON {table} TO {named} WITH GRANT OPTION",
)

POLICIES = (
    "USING (true)",
    "AS RESTRICTIVE FOR SELECT TO {role} USING ({column} IS NOT NULL)",
    "FOR INSERT TO {role} WITH CHECK ({column} IS NULL OR current_user = 'x')",
    "FOR UPDATE USING (EXISTS (SELECT FROM {table} AS o WHERE o.{column} IS NULL))",
)

NEWER = (
    "ADD CONSTRAINT {name} CHECK ({column} IS NULL) NOT ENFORCED",
    "ADD CONSTRAINT {name} NOT NULL {full}",
    "ADD CONSTRAINT {name} NOT NULL {full} NO INHERIT",
    "ADD CONSTRAINT {name} NOT NULL {void} NOT VALID",
)
"""What PostgreSQL 18 brought."""

COMMENT_ON_ALL = """\
DO $do$ DECLARE what text; BEGIN
    FOR what IN
        SELECT format('CONSTRAINT %I ON {table}', conname) FROM pg_constraint
        WHERE conrelid = '{table}'::regclass AND contype <> 't'
        UNION SELECT format('TRIGGER %I ON {table}', tgname) FROM pg_trigger
        WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal
        UNION SELECT format('POLICY %I ON {table}', polname) FROM pg_policy
        WHERE polrelid = '{table}'::regclass
        UNION SELECT format('INDEX %s', indexrelid::regclass) FROM pg_index
        WHERE indrelid = '{table}'::regclass
        UNION SELECT format('STATISTICS %I.%I', stxnamespace::regnamespace::text, stxname)
        FROM pg_statistic_ext WHERE stxrelid = '{table}'::regclass AND stxnamespace = 2200
    LOOP EXECUTE format('COMMENT ON %s IS %L', what, 'It''s ' || what); END LOOP;
END $do$"""


class Extras(Keys):
    """Draws what hangs on a table, in the order in which it can be made."""

    def statements(self) -> list[str]:
        """Return what makes it, each kind now and then."""
        always: tuple[Callable[[], Iterator[str]], ...] = (self._roles, self._indexes)
        kinds: tuple[tuple[int, Callable[[], Iterator[str]]], ...] = (
            (30, self._unique),
            (20, self._exclusion),
            (40, self._check),
            (15, self._unvalidated),
            (40, self._foreign_keys),
            (40, self._children),
            (40, self._options),
            (30, self._column_options),
            (40, self._statistics),
            (50, self._triggers),
            (40, self._views),
            (30, self._functions),
            (40, self._grants),
            (30, self._policies),
            (15, self._identity_and_cluster),
            (35, self._publication),
            (50, self._comments),
            (15, self._newer),
        )
        made = [one for part in always for one in part()]
        return made + [
            one for percent, part in kinds if self.maker.chance(percent) for one in part()
        ]

    # -- options -------------------------------------------------------------------------------

    def _options(self) -> Iterator[str]:
        yield self._alter(self.maker.pick(OPTIONS))
        if self.maker.chance(30):
            name = f"{self.schema}.{self._name()}"
            yield f"CREATE SEQUENCE {name}"
            if self._owner:
                yield f"ALTER SEQUENCE {name} OWNER TO {self._owner}"
            yield f"ALTER SEQUENCE {name} OWNED BY {self.table}.{self._column()}"

    def _column_options(self) -> Iterator[str]:
        column = f"ALTER COLUMN {self._column()}"
        yield self._alter(f"{column} SET STATISTICS {self.maker.number(0, 500)}")
        yield self._alter(f"{column} SET (n_distinct = -0.5)")
        more = ("SET COMPRESSION lz4",) if "lz4" in self.maker.server.parts else ()
        for one in self.maker.plain():
            if one.kind and one.kind.type in {"text", "bytea", "jsonb", "varchar(20)"}:
                option = self.maker.pick((*COLUMN_OPTIONS, *more))
                yield self._alter(f"ALTER COLUMN {quoted(one.name)} {option}")

    def _statistics(self) -> Iterator[str]:
        chosen = self.maker.some([one.name for one in self._ordered], 3)
        name = self._name()
        if len(chosen) > 1:
            columns = ", ".join(map(quoted, chosen))
            yield f"CREATE STATISTICS {name} ON {columns} FROM {self.table}"
            yield f"ALTER STATISTICS {name} SET STATISTICS 77"
        else:
            column = self._column()
            yield f"CREATE STATISTICS {name} ON (({column} IS NULL)) FROM {self.table}"

    def _identity_and_cluster(self) -> Iterator[str]:
        way = self.maker.pick(("full", "nothing", "index", "cluster"))
        if way in {"full", "nothing"}:
            self._replica = "all" if way == "full" else ""
            yield self._alter(f"REPLICA IDENTITY {way.upper()}")
        elif self.maker.keys:
            name = self._name()
            columns = ", ".join(map(quoted, self.maker.keys))
            yield f"CREATE UNIQUE INDEX {name} ON {self.table} ({columns})"
            if way == "index":
                self._replica = "key"
                yield self._alter(f"REPLICA IDENTITY USING INDEX {name}")
            else:
                yield self._alter(f"CLUSTER ON {name}")

    def _publication(self) -> Iterator[str]:
        """Yield a publication under which the table can be updated."""
        if self.maker.persistence:
            return
        keys = [quoted(one) for one in self.maker.keys]
        forms = [f"TABLE {self.table}", "ALL TABLES", f"TABLES IN SCHEMA {self.schema}"]
        if self._replica == "key":
            column = self._column()
            columns = ", ".join([*keys, *([column] if column not in keys else [])])
            forms += [
                f"TABLE ONLY {self.table} ({columns})",
                f"TABLE {self.table} WHERE ({keys[0]} IS NOT NULL)",
            ]
        # PostgreSQL 18 wants all of a row published where all of it identifies it.
        partly = self._replica == "all" and any(c.is_generated for c in self.maker.columns)
        updates = self._replica and not (partly and self.maker.server.major >= 18)
        publish = "" if updates else " WITH (publish = 'insert, truncate')"
        yield f"CREATE PUBLICATION {self._name()} FOR {self.maker.pick(forms)}{publish}"

    # -- what depends on it --------------------------------------------------------------------

    def _triggers(self) -> Iterator[str]:
        function = f"{self.schema}.nothing"
        yield (
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql"
            " SET search_path = pg_catalog AS $$ BEGIN"
            " IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
        )
        for form in self.maker.some(TRIGGERS, 3):
            if "OLD.*" in form and not self._is_comparable():
                continue
            name = self._name()
            body = form.format(table=self.table, column=self._column(), row=function)
            yield f"CREATE TRIGGER {name} {body}"
            state = self.maker.pick(("", "", "DISABLE", "ENABLE REPLICA", "ENABLE ALWAYS"))
            if state:
                yield self._alter(f"{state} TRIGGER {name}")
        if self.maker.chance(30):
            yield (
                f"CREATE CONSTRAINT TRIGGER {self._name()} AFTER INSERT OR UPDATE ON {self.table}"
                f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function}()"
            )

    def _is_comparable(self) -> bool:
        """Return whether a trigger's condition may compare whole rows."""
        return all(one in self._ordered or not one.kind for one in self.maker.plain()) and not any(
            one.is_generated for one in self.maker.columns
        )

    def _views(self) -> Iterator[str]:
        for form in self.maker.some(VIEWS, 2):
            name = f"{self.schema}.{self._name()}"
            yield "CREATE " + form.format(name=name, table=self.table, column=self._column())

    def _functions(self) -> Iterator[str]:
        for n, form in enumerate(self.maker.some(FUNCTIONS, 2)):
            made = form.format(n=n, table=self.table, column=self._column())
            yield f"CREATE FUNCTION {self.schema}.{made}"

    # -- rights and words ----------------------------------------------------------------------

    def _grants(self) -> Iterator[str]:
        for form in self.maker.some(GRANTS, 3):
            yield "GRANT " + form.format(
                table=self.table,
                column=self._column(),
                role=self._role(),
                named=quoted(self.maker.pick(ROLES)),
            )

    def _policies(self) -> Iterator[str]:
        if self.maker.chance(70):
            yield self._alter("ENABLE ROW LEVEL SECURITY")
        for form in self.maker.some(POLICIES, 2):
            how = form.format(column=self._column(), role=self._role(), table=self.table)
            yield f"CREATE POLICY {self._name()} ON {self.table} {how}"

    def _comments(self) -> Iterator[str]:
        yield f"COMMENT ON TABLE {self.table} IS {literal(COMMENT)}"
        yield f"COMMENT ON COLUMN {self.table}.{self._column()} IS {literal(COMMENT)}"
        in_literal = self.table.replace("'", "''")
        yield COMMENT_ON_ALL.replace("{table}", in_literal)

    def _newer(self) -> Iterator[str]:
        if self.maker.server.major < 18:
            return
        free = [c for c in self.maker.plain() if "NOT NULL" not in c.definition]
        for form in self.maker.some(NEWER, 2):
            fitting = [one.name for one in free if one.is_null is ("{void}" in form)]
            if fitting or "{column}" in form:
                column = quoted(self.maker.pick(fitting)) if fitting else ""
                free = [one for one in free if quoted(one.name) != column]
                names = {"full": column, "void": column, "column": self._column()}
                yield self._alter(form.format(name=self._name(), **names))
