"""Code of less privileged roles on the table: refused by name before it could run."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from runbook.catalog import read_catalog
from runbook.errors import BlockedError, RefusedError, RunbookError
from runbook.facts import Act, Catalog
from runbook.plan import Options, Plan, build_plan, review
from runbook.run import apply_atomic
from runbook.run.online import Journal, Limits, apply_online
from runbook.spec import Spec, load_spec, parse_spec
from runbook.trust.holding import open_to_others
from runbook.trust.owner_code import owner_code_findings, read_owner_code
from runbook.trust.preflight import require_trusted
from runbook.verify import verify
from runbook.vocabulary import Level
from tests.conftest import Cluster, Database
from tests.trust.owners import SPEC, Owned, owned

Mode = Literal["atomic", "online"]
MODES: tuple[Mode, ...] = ("atomic", "online")
PARSED = parse_spec(SPEC, file="sorting.toml")
NAME = PARSED.table

TRIGGER = (
    "CREATE FUNCTION app.fires() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN RAISE LOG '{mark} as %', current_user; RETURN NEW; END $$"
)
PURE = (
    "CREATE FUNCTION app.pure(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$"
    " BEGIN RAISE LOG '{mark} as %', current_user; RETURN 1; END $$"
)
OTHER = (
    "CREATE TABLE app.parts (id bigint PRIMARY KEY, ticket bigint"
    " REFERENCES app.tickets ON UPDATE CASCADE)"
)
TOLD_AS_JSON = (
    "CREATE FUNCTION app.told(app.status) RETURNS json LANGUAGE plpgsql AS $$"
    " BEGIN RAISE LOG '{mark} as %', current_user; RETURN '1'; END $$",
    "CREATE CAST (app.status AS json) WITH FUNCTION app.told(app.status)",
)
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "trigger": (
        (TRIGGER, "CREATE TRIGGER t BEFORE UPDATE ON app.tickets FOR EACH ROW"
         " EXECUTE FUNCTION app.fires()"), "t on app.tickets"),
    "trigger of a statement": (
        (TRIGGER, "CREATE TRIGGER t AFTER UPDATE ON app.tickets EXECUTE FUNCTION app.fires()"),
        "t on app.tickets"),
    "constraint trigger": (
        (TRIGGER, "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON app.tickets DEFERRABLE"
         " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.fires()"), "t on app.tickets"),
    "condition of a trigger": (
        (PURE, "CREATE TRIGGER t BEFORE UPDATE ON app.tickets FOR EACH ROW"
         " WHEN (app.pure(NEW.size) = 1) EXECUTE FUNCTION suppress_redundant_updates_trigger()"),
        "t on app.tickets"),
    "rule": (("CREATE RULE r AS ON UPDATE TO app.tickets DO ALSO NOTIFY seen",),
             "r on app.tickets"),
    "CHECK": (
        (PURE, "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK (app.pure(size) = 1) NOT VALID"),
        "k on app.tickets"),
    "index expression": ((PURE, "CREATE INDEX x ON app.tickets (app.pure(size))"),
                         "x on app.tickets"),
    "index predicate": ((PURE, "CREATE INDEX x ON app.tickets (id) WHERE app.pure(7) = 1"),
                        "x on app.tickets"),
    "generated column": (
        (PURE, "ALTER TABLE app.tickets ADD g integer GENERATED ALWAYS AS (app.pure(size)) STORED"),
        "g of app.tickets"),
    "default": ((PURE, "ALTER TABLE app.tickets ALTER size SET DEFAULT app.pure(1)"),
                "size of app.tickets"),
    "domain": (
        (PURE, "CREATE DOMAIN app.few AS integer CHECK (app.pure(VALUE) = 1)",
         "ALTER TABLE app.tickets ADD few app.few"), "few_check of app.few"),
    "domain in an array of composites": (
        (PURE, "CREATE DOMAIN app.few AS integer CHECK (app.pure(VALUE) = 1)",
         "CREATE TYPE app.pair AS (a app.few, b text)",
         "ALTER TABLE app.tickets ADD many app.pair[]"),
        "few_check of app.few"),
    "policy": ((PURE, "CREATE POLICY p ON app.tickets USING (app.pure(size) = 1)"),
               "p on app.tickets"),
    "statistics": ((PURE, "CREATE STATISTICS app.s ON app.pure(size), size FROM app.tickets"),
                   "s on app.tickets"),
    "operator in a CHECK": (
        ("CREATE FUNCTION app.same(varchar, varchar) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
         " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN true; END $$",
         "CREATE OPERATOR app.=== (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.same)",
         "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK (name OPERATOR(app.===) name) NOT VALID"),
        "k on app.tickets"),
    "cast in a CHECK": (
        ("CREATE FUNCTION app.told(app.status) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
         " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN 1; END $$",
         "CREATE CAST (app.status AS integer) WITH FUNCTION app.told(app.status)",
         "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK (status::integer = 1) NOT VALID"),
        "k on app.tickets"),
    "negator of an operator": (
        ("CREATE FUNCTION app.differs(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
         " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN true; END $$",
         "CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq,"
         " NEGATOR = OPERATOR(app.!==))",
         "CREATE OPERATOR app.!== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.differs,"
         " NEGATOR = OPERATOR(app.===))",
         "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK (NOT (note OPERATOR(app.===) 'z'::text))"
         " NOT VALID"), "k on app.tickets"),
    "type that is told": (
        (PURE, "CREATE DOMAIN app.few AS text CHECK (app.pure(1) = 1)",
         "DO $do$ BEGIN EXECUTE format('ALTER TABLE app.tickets ADD CONSTRAINT k CHECK"
         " (array_in(''{1}''::cstring, %s::oid, -1) IS NOT NULL) NOT VALID',"
         " 'app.few'::regtype::oid); END $do$"), "k on app.tickets"),
    "difference of a range": (
        ("CREATE FUNCTION app.diff(integer, integer) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS"
         " $$ BEGIN RAISE LOG '{mark} as %', current_user; RETURN $1 - $2; END $$",
         "CREATE TYPE app.span AS RANGE (SUBTYPE = int4, SUBTYPE_DIFF = app.diff)",
         "ALTER TABLE app.tickets ADD spans app.span[]"), "app.span"),
    "JSON_OBJECT": (
        (*TOLD_AS_JSON, "ALTER TABLE app.tickets ADD CONSTRAINT k"
         " CHECK (JSON_OBJECT('a': status) IS NOT NULL) NOT VALID"), "k on app.tickets"),
    "RETURNING a domain": (
        (PURE, "CREATE DOMAIN app.few AS text CHECK (app.pure(1) = 1)",
         "ALTER TABLE app.tickets ADD CONSTRAINT k CHECK"
         " (JSON_VALUE(JSONB '[\"x\"]', '$[0]' RETURNING app.few) IS NOT NULL) NOT VALID"),
        "few_check of app.few"),
    "SQL as a text": (
        ("ALTER TABLE app.tickets ADD CONSTRAINT k CHECK"
         " (query_to_xml('SELECT 1', true, true, '') IS NOT NULL) NOT VALID",), "k on app.tickets"),
    "partner of a foreign key": (
        (OTHER, TRIGGER, "CREATE TRIGGER t BEFORE UPDATE ON app.parts FOR EACH ROW"
         " EXECUTE FUNCTION app.fires()"), "t on app.parts"),
}  # fmt: skip
"""How an owner attaches code to a table, and how it is named."""

QUIET = {"negator of an operator", "type that is told", "difference of a range", "default",
         "domain", "domain in an array of composites", "policy", "statistics",
         "partner of a foreign key", "index expression"}  # fmt: skip
"""What this migration has nothing run of, trusted or not: it writes no such value and no key, and
the updated rows stay on their pages (HOT)."""

NEVER = {"rule", "SQL as a text"}
"""What is refused whatever is trusted, or asks for a server with libxml."""


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


def catalog(place: Owned, *, trust: bool = False, role: str = "postgres") -> Catalog:
    with place.connected_as(role).session() as connection:
        return read_catalog(connection, PARSED, trust_owner_code=trust)


def options(mode: Mode, *, trust: bool = False) -> Options:
    return Options(mode=mode, lock_timeout_ms=300, trust_owner_code=trust)


def apply(
    place: Owned,
    plan: Plan,
    found: Catalog,
    *,
    role: str = "postgres",
    spec: Spec = PARSED,
    **more: Any,
) -> None:
    """Apply a plan, whatever came meanwhile."""
    connect = place.connected_as(role).session
    if plan.mode == "atomic":
        apply_atomic(connect, spec, found, plan, run_id=uuid.uuid4(), wait_ms=300)
        return
    apply_online(
        connect,
        spec,
        found,
        plan,
        run_id=uuid.uuid4(),
        wait_ms=300,
        limits=Limits(max_wait_ms=2_000, batch_ms=1),
        journal=Journal(),
        **more,
    )


class Mark:
    """What the owner's functions write into the server's log."""

    def __init__(self, cluster: Cluster) -> None:
        self.text = f"mark-{uuid.uuid4().hex}"
        (self._path,) = cluster.server.directory.rglob("server.log")

    def in_(self, statements: tuple[str, ...]) -> list[str]:
        return [one.replace("{mark}", self.text) for one in statements]

    def by(self, role: str) -> bool:
        """Return whether any ran as a role."""
        log = self._path.read_text("utf-8", errors="replace")
        return f"LOG:  {self.text} as {role}" in log


@pytest.mark.parametrize("kind", KINDS)
def test_code_of_every_kind_is_refused_by_name_and_never_runs(
    kind: str, place: Owned, newest: Cluster
) -> None:
    statements, named = KINDS[kind]
    mark = Mark(newest)
    place.as_owner(*mark.in_(statements))
    found = catalog(place)
    blocking = [
        one
        for one in review(PARSED, found, options("atomic"))
        if one.code == "owner-code" and one.level is Level.BLOCKER
    ]
    assert named in [one.object for one in blocking]
    assert all(place.owner in one.message and "postgres" in one.message for one in blocking)
    assert any(one.runs_by(frozenset({Act.READ})) for one in found.owner_code) == (
        found.census is None
    )
    assert not mark.by("postgres")
    # To its owner, and to who has no more rights than the owner, it is nothing new.
    assert catalog(place, role=place.owner).owner_code == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_code_that_comes_after_the_review_is_refused_under_the_lock(
    mode: Mode, kind: str, place: Owned, newest: Cluster
) -> None:
    statements, named = KINDS[kind]
    mark, found = Mark(newest), catalog(place)
    plan = build_plan(PARSED, found, options(mode))
    place.as_owner(*mark.in_(statements))
    with pytest.raises(RefusedError, match="changed after the plan was made"):
        apply(place, plan, found)
    assert not mark.by("postgres")
    assert place.database.value("SELECT to_regclass('app.issues')") is None
    assert named


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEVER])
def test_with_the_flag_it_runs_and_the_report_says_whose(
    mode: Mode, kind: str, place: Owned, newest: Cluster
) -> None:
    statements, named = KINDS[kind]
    mark = Mark(newest)
    # Few rows differ from the commonest label: they are updated, and the table is not rewritten.
    place.as_owner("UPDATE app.tickets SET status = 'done', name = 'x', note = 'y' WHERE id > 5")
    place.as_owner(*mark.in_(statements))
    found = catalog(place, trust=True)
    trusted = [
        one
        for one in review(PARSED, found, options(mode, trust=True))
        if one.code == "owner-code-trusted"
    ]
    assert named in [one.object for one in trusted]
    assert all(f"code of role {place.owner!r}" in one.message for one in trusted)
    plan = build_plan(PARSED, found, options(mode, trust=True))
    assert plan.facts["owner_code"] == [str(one) for one in found.owner_code]
    apply(place, plan, found)
    assert place.database.value("SELECT to_regclass('app.issues')") is not None
    assert mark.by("postgres") or kind in QUIET


def test_another_function_than_the_trusted_one_is_refused(place: Owned) -> None:
    statements, _ = KINDS["trigger"]
    place.as_owner(*statements)
    found = catalog(place, trust=True)
    plan = build_plan(PARSED, found, options("atomic", trust=True))
    place.as_owner(*KINDS["statistics"][0])
    with pytest.raises(RefusedError, match="owner_code"):
        apply(place, plan, found)


@pytest.mark.parametrize(
    "kind", ["trigger", "CHECK", "index expression", "index predicate", "statistics"]
)
def test_code_that_comes_between_two_batches_is_refused(
    kind: str, place: Owned, newest: Cluster
) -> None:
    place.as_owner(
        "INSERT INTO app.tickets (status, name, size) SELECT 'new', 'n ' || i, 1"
        " FROM generate_series(1, 20000) i"
    )
    statements, _ = KINDS[kind]
    mark, found = Mark(newest), catalog(place)
    plan = build_plan(PARSED, found, options("online"))
    added: list[bool] = []

    def tell(phase: str, text: str, share: float) -> None:
        if phase == "backfill" and not added:
            added.append(True)
            place.as_owner(*mark.in_(statements))

    with pytest.raises(RunbookError, match=place.owner):
        apply(place, plan, found, tell=tell)
    assert not mark.by("postgres")


def test_a_database_whose_texts_mean_something_else_hides_no_code(
    place: Owned, newest: Cluster
) -> None:
    name = place.database.name
    place.database.execute(
        f"ALTER DATABASE {name} SET standard_conforming_strings = off",
        f"ALTER DATABASE {name} SET quote_all_identifiers = on",
        f"ALTER DATABASE {name} SET transform_null_equals = on",
    )
    for kind in ("trigger", "index expression", "CHECK"):
        statements, _ = KINDS[kind]
        place.as_owner(*(statements[1:] if kind == "CHECK" else statements))
    objects = {one.object for one in catalog(place).owner_code}
    assert objects == {"t on app.tickets", "x on app.tickets", "k on app.tickets"}


def test_a_view_that_takes_the_tables_name_is_not_read(place: Owned, newest: Cluster) -> None:
    mark = Mark(newest)
    spec = ("--spec", "sorting.toml")
    assert place.run("migrate", *spec).returncode == 0
    with place.database.session() as connection:
        found = read_catalog(connection, PARSED, count=False)
    assert found.applied is not None
    place.as_owner(
        *mark.in_(KINDS["index expression"][0][:1]),
        "ALTER TABLE app.issues RENAME TO kept",
        "CREATE VIEW app.issues AS SELECT k.*, app.pure(1) FROM app.kept k",
    )
    # As if it had been put there between the reading of the catalog and the checks.
    with (
        place.database.session() as connection,
        pytest.raises(BlockedError, match=r"view app\.issues"),
    ):
        verify(connection, PARSED, found.applied)
    assert place.run("verify", *spec).returncode == 3
    assert not mark.by("postgres")


def test_a_trigger_on_a_partition_is_code_of_its_owner(newest: Cluster, tmp_path: Path) -> None:
    with owned(newest, tmp_path) as place:
        place.as_owner(
            *KINDS["trigger"][0][:1],
            "CREATE TABLE app.parted (id bigint, state text) PARTITION BY RANGE (id)",
            "CREATE TABLE app.part PARTITION OF app.parted FOR VALUES FROM (0) TO (9)",
            "CREATE TRIGGER t BEFORE UPDATE ON app.part FOR EACH ROW EXECUTE FUNCTION app.fires()",
            *KINDS["CHECK"][0][:1],
            "CREATE TABLE app.keyed (id integer) PARTITION BY RANGE (app.pure(id))",
        )
        with place.database.session() as connection:
            for table, object_ in (("parted", "t on app.part"), ("keyed", "of app.keyed")):
                with pytest.raises(BlockedError, match=object_):
                    require_trusted(
                        connection,
                        [("app", table)],
                        acts=frozenset(Act),
                        trusted=False,
                    )


def test_set_role_is_no_wall(place: Owned) -> None:
    """Who logged in as a superuser and acts as the owner is the superuser to the owner's code."""
    place.as_owner(*KINDS["trigger"][0])
    with place.database.session() as connection:
        connection.execute(f"SET ROLE {place.owner}".encode())
        assert read_catalog(connection, PARSED).owner_code


def test_a_member_of_the_owner_is_trusted_with_as_long_as_it_has_nothing_else(
    place: Owned,
) -> None:
    place.as_owner(*KINDS["trigger"][0])
    member, vault = (f"{place.owner}_{name}" for name in ("m", "v"))
    database = place.database
    database.execute(f"CREATE ROLE {member} LOGIN IN ROLE {place.owner}", f"CREATE ROLE {vault}")
    try:
        assert catalog(place, role=member).owner_code == ()
        for more, less in (
            (f"GRANT {vault} TO {member}", f"REVOKE {vault} FROM {member}"),
            (f"ALTER ROLE {member} CREATEROLE", f"ALTER ROLE {member} NOCREATEROLE"),
            ("CREATE TABLE public.secret ()", "DROP TABLE public.secret"),
        ):
            database.execute(more)
            if "secret" in more:
                database.execute(f"ALTER TABLE public.secret OWNER TO {member}")
            assert catalog(place, role=member).owner_code, more
            database.execute(less)
            assert catalog(place, role=member).owner_code == (), less
        # The other way round: who may act as the connected role gains nothing.
        database.execute(f"REVOKE {place.owner} FROM {member}", f"GRANT {vault} TO {place.owner}")
        database.execute(
            f"GRANT USAGE ON SCHEMA app TO {vault}",
            f"ALTER ROLE {vault} LOGIN",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA app TO {vault}",
        )
        assert catalog(place, role=vault).owner_code == ()
    finally:
        database.execute(f"DROP OWNED BY {member}, {vault}", f"DROP ROLE {member}, {vault}")


@pytest.mark.parametrize("by", ["the owner", "a member", "a superuser"])
def test_the_real_tables_shape_is_no_blocker(by: str, sample: Database) -> None:
    owner = f"music_{uuid.uuid4().hex[:10]}"
    member = f"{owner}_m"
    spec: Spec = load_spec("llamalog")
    sample.execute(
        f"CREATE ROLE {owner} LOGIN",
        f"CREATE ROLE {member} LOGIN IN ROLE {owner}",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {owner}",
        f"GRANT CREATE ON DATABASE {sample.name} TO {owner}, {member}",
    )
    try:
        with sample.connect() as connection:
            for kind, name in connection.execute(_OWNED).fetchall():
                connection.execute(f'ALTER {kind} public."{name}" OWNER TO {owner}'.encode())
        role = {"the owner": owner, "a member": member, "a superuser": "postgres"}[by]
        conninfo = sample.conninfo.replace("user=postgres", f"user={role}")
        from runbook.trust.session import open_session

        with open_session(conninfo, application="tests") as connection:
            found = read_catalog(connection, spec)
        assert (found.owner_code, found.ledger_problem) == ((), "")
        blocking = [
            one for one in review(spec, found, Options(mode="atomic")) if one.level is Level.BLOCKER
        ]
        assert blocking == []
        plan = build_plan(spec, found, Options(mode="atomic"))
        apply_atomic(
            lambda: open_session(conninfo, application="tests"),
            spec,
            found,
            plan,
            run_id=uuid.uuid4(),
            wait_ms=300,
        )
    finally:
        sample.execute(
            f"REASSIGN OWNED BY {owner}, {member} TO postgres",
            f"DROP OWNED BY {owner}, {member}",
            f"DROP ROLE {owner}, {member}",
        )


_OWNED = """\
SELECT 'TABLE', relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'TYPE', typname FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'"""


@pytest.mark.parametrize("act", [Act.READ, Act.DEFINE])
def test_what_only_reads_or_defines_is_refused_for_that_alone(
    act: Act, place: Owned, newest: Cluster
) -> None:
    place.as_owner(*KINDS["trigger"][0], *KINDS["index predicate"][0])
    code = catalog(place).owner_code
    found = owner_code_findings(code, "postgres", acts=frozenset({act}), trusted=False)
    assert [one.object for one in found] == (["x on app.tickets"] if act is Act.READ else [])


def test_what_only_reads_is_not_refused_for_what_writing_runs(place: Owned) -> None:
    spec = ("--spec", "sorting.toml")
    assert place.run("migrate", *spec).returncode == 0
    place.as_owner(
        *KINDS["trigger"][0][:1],
        "CREATE TRIGGER t BEFORE UPDATE ON app.issues FOR EACH ROW EXECUTE FUNCTION app.fires()",
    )
    for command in ("verify", "migrate", "rollback"):
        ended = place.run(command, *spec)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    ended = place.run("migrate", *spec)
    assert ended.returncode == 3 and "Trigger t on app.tickets calls app.fires()" in ended.stdout
    ended = place.run("migrate", *spec, "--trust-owner-code")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "where it runs, it has the rights of 'postgres'" in ended.stdout
    report = max(place.folder.glob("reports/*-migrate-succeeded*/manifest.json"))
    assert "owner-code-trusted" in report.read_text("utf-8")


def test_an_extensions_type_is_compared_as_the_application_compares_it(
    newest: Cluster, tmp_path: Path
) -> None:
    """citext ignores case, wherever the extension lives; PostgreSQL 18's wheel may lack it."""
    text = SPEC.replace('equals = ["open", "new"]', 'equals = "OPEN"')
    with owned(newest, tmp_path, text) as place:
        try:
            place.database.execute(
                "CREATE SCHEMA extensions", "CREATE EXTENSION citext SCHEMA extensions"
            )
        except psycopg.Error:
            pytest.skip("citext is not installed")
        place.database.execute("GRANT USAGE ON SCHEMA extensions TO PUBLIC")
        place.as_owner(
            "ALTER TABLE app.tickets ALTER status TYPE extensions.citext USING status::text",
            "ALTER TABLE app.tickets ALTER name TYPE extensions.citext",
            "UPDATE app.tickets SET name = upper(name) WHERE id % 2 = 0",
        )
        spec = parse_spec(text, file="sorting.toml")
        with place.database.session() as connection:
            census = read_catalog(connection, spec).census
        assert census is not None
        wanted = "SELECT count(*) FROM app.tickets WHERE status::text ILIKE 'open'"
        assert census.predicted["open"] == place.database.value(wanted) > 0
        named = (
            "SELECT count(*) FROM app.tickets WHERE NOT status::text ILIKE 'open'"
            " AND (name::text ILIKE 'n 1%' OR name::text ILIKE 'n 2')"
        )
        assert census.predicted["named"] == place.database.value(named)


def test_a_superusers_check_that_makes_json_is_code_of_who_owns_a_type_in_it(
    place: Owned, newest: Cluster
) -> None:
    """Also where table and constraint are a superuser's, and the cast comes later."""
    place.database.execute(
        "ALTER TABLE app.tickets OWNER TO postgres",
        "CREATE SCHEMA firm",
        "ALTER TABLE app.tickets SET SCHEMA firm",
    )
    for check, refused in (
        ("to_jsonb(status)", True),
        ("to_jsonb(several)", True),
        ("to_jsonb(tickets)", True),
        ("JSON_OBJECT('a': status)" if newest.major > 15 else "json_build_array(status)", True),
        ("to_jsonb(size)", False),
    ):
        place.database.execute(
            f"ALTER TABLE firm.tickets ADD CONSTRAINT k CHECK ({check} IS NOT NULL)"
        )
        with place.database.session() as connection:
            code = read_owner_code(connection, [("firm", "tickets")], ledger_schema="runbook")
        assert [(one.object, one.owner) for one in code] == (
            [("k on firm.tickets", place.owner)] if refused else []
        ), check
        place.database.execute("ALTER TABLE firm.tickets DROP CONSTRAINT k")


def test_a_foreign_table_among_the_heirs_is_code_and_is_not_read(place: Owned) -> None:
    place.database.execute(
        "CREATE FOREIGN DATA WRAPPER nobodys",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nobodys",
        f"GRANT USAGE ON FOREIGN SERVER elsewhere TO {place.owner}",
    )
    place.as_owner("CREATE FOREIGN TABLE app.far () INHERITS (app.tickets) SERVER elsewhere")
    found = catalog(place)  # reading it would fail: its wrapper has no handler
    assert found.census is None
    assert [(one.kind, one.object) for one in found.owner_code] == [("foreign table", "app.far")]


def test_the_range_of_a_multirange_is_looked_at(place: Owned) -> None:
    place.as_owner(*KINDS["difference of a range"][0][:2])
    place.as_owner("ALTER TABLE app.tickets ADD spans app.span_multirange")
    assert [one.object for one in catalog(place).owner_code] == ["app.span"]


@pytest.mark.parametrize("of_schema", [True, False])
def test_who_owns_the_schema_may_put_another_table_in_its_place(
    of_schema: bool, place: Owned
) -> None:
    place.database.execute("ALTER TABLE app.tickets OWNER TO postgres")
    if not of_schema:
        place.database.execute("ALTER SCHEMA app OWNER TO postgres")
    with place.database.session() as connection:
        found = open_to_others(connection, [("app", "tickets")], ledger_schema="runbook")
    assert list(found) == ([("app", "tickets")] if of_schema else [])
