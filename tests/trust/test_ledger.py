"""What stands in the ledger is data: forged, nothing of it is run, and the message says so."""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook.archive.approval import vouching_run
from runbook.archive.keys import make_key
from runbook.archive.store import open_store
from runbook.catalog import read_catalog
from runbook.catalog.ledger import read_recorded
from runbook.errors import BlockedError, RefusedError, RunbookError, Stopped
from runbook.facts import Partition
from runbook.plan import Plan, believed_plan, build_plan, resumed_plan
from runbook.plan.applied import altered as altered_row
from runbook.plan.applied import why_unproved
from runbook.plan.model import sha256_of
from runbook.plan.remade import _inputs, remade
from runbook.run.online import Journal
from runbook.run.single import execute_single
from runbook.run.wayback.proof import tally
from runbook.spec import Spec, parse_spec
from runbook.trust.ledger import TABLES, ledger_problem, ledger_writers
from runbook.vocabulary import Phase, Role
from tests.cases import CASES, kinds
from tests.conftest import Cluster, Database
from tests.migrating import (
    ATOMIC,
    ONLINE,
    catalog_of,
    check,
    migrate,
    migrate_online,
    plan_of,
    stop_online,
    take_back,
)
from tests.trust.owners import SPEC, Owned, owned

PARSED = parse_spec(SPEC, file="sorting.toml")
Forgery = Callable[[dict[str, Any]], None]


@pytest.fixture
def place(newest: Cluster, tmp_path: Path) -> Iterator[Owned]:
    with owned(newest, tmp_path) as made:
        yield made


# -- plans are made again --------------------------------------------------------------------


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("mode", ["atomic", "online"])
def test_a_recorded_plan_of_every_kind_is_made_again(name: str, mode: str, newest: Cluster) -> None:
    case = CASES[name]
    database = case.make(newest)
    options = replace(ATOMIC if mode == "atomic" else ONLINE, **case.options)
    plan = build_plan(case.spec, catalog_of(database, case.spec), options)
    recorded = Plan.of(json.loads(json.dumps(asdict(plan), default=dict)))
    own = remade(recorded, case.spec)
    assert own is not None and own.sha256 == plan.sha256
    assert own.statements == plan.statements
    newest.drop(database)


# -- forged rows -----------------------------------------------------------------------------

EVIL = "ALTER ROLE {owner} SUPERUSER"


def _statement(plan: dict[str, Any], phase: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in plan["statements"] if one["phase"] == phase and one["role"] == "change"
    )
    return found


def altered(phase: str, key: str) -> Forgery:
    def forge(plan: dict[str, Any]) -> None:
        _statement(plan, phase)[key] = EVIL

    return forge


def appended(phase: str, role: str = "change") -> Forgery:
    def forge(plan: dict[str, Any]) -> None:
        plan["statements"].append({**_statement(plan, phase), "sql": EVIL, "role": role})

    return forge


def fact(path: str, value: Any) -> Forgery:
    def forge(plan: dict[str, Any]) -> None:
        *inner, last = path.split(".")
        item: Any = plan
        for name in inner:
            item = item[int(name)] if isinstance(item, list) else item[name]
        item[int(last) if isinstance(item, list) else last] = value

    return forge


def concurrent(key: str) -> Forgery:
    def forge(plan: dict[str, Any]) -> None:
        next(one for one in plan["statements"] if one["phase"] == "index")[key] = EVIL

    return forge


FORGED_APPLIED: Mapping[str, Forgery] = {
    "a statement of the way back": altered("rollback", "sql"),
    "a statement more": appended("rollback"),
    "a setting more": appended("rollback", "setting"),
    "a query on the rows": appended("rollback", "tally_before"),
    "a statement of the contraction": altered("contract", "sql"),
    "a column's default": fact("facts.table.columns.0.default", "1); ALTER ROLE x SUPERUSER; --"),
    "a column's name": fact("facts.table.columns.2.name", "elsewhere"),
    "an index of another name": fact("facts.table.indexes.0.name", "tickets_elsewhere"),
    "a right": fact("inputs.table.grants", [{"role": "x", "column": None, "grantable": False,
                                             "rights": ["ALL ON app.t TO x; DROP TABLE y; --"]}]),
    "a type of a column": fact("facts.table.columns.0.type", "numeric) ; DROP TABLE x; --"),
    "options": fact("inputs.options.lock_timeout_ms", "1; DROP TABLE x"),
    "no inputs": fact("inputs", {}),
    "the schema": fact("schema", "public"),
    "the table": fact("table_after", "elsewhere"),
    "the mode": fact("mode", "nonsense"),
    "no plan at all": fact("statements", "nothing"),
}  # fmt: skip

FORGED_STOPPED: Mapping[str, Forgery] = {
    "a batch": altered("expand", "sql"),
    "an undo": altered("expand", "undo"),
    "a statement of the cutover": altered("cutover", "sql"),
    "a cutover more": appended("cutover"),
    "a query for an index": concurrent("state"),
    "what removes a part of an index": concurrent("cleanup"),
    "the kind of the table": fact("facts.table.kind", "p"),
    "no inputs": fact("inputs", {}),
    "the schema": fact("schema", "public"),
}  # fmt: skip


def forge(place: Owned, table: str, how: Forgery, *, hashed: bool) -> str:
    """Forge the plan of the ledger's newest row, and its hash too where that is wanted."""
    with place.database.connect() as connection:
        row = connection.execute(f"SELECT run_id::text, plan FROM runbook.{table}".encode())
        found = row.fetchone()
        assert found is not None
        run_id, plan = found
        how(plan)
        text = json.dumps(plan).replace("{owner}", place.owner)
        connection.execute(
            f"UPDATE runbook.{table} SET plan = %s::jsonb WHERE run_id = %s".encode(),
            [text, run_id],
        )
        if hashed:
            try:
                sha256 = sha256_of(json.loads(text))
            except (KeyError, TypeError, AttributeError):
                return str(run_id)
            connection.execute(
                f"UPDATE runbook.{table} SET plan_sha256 = %s WHERE run_id = %s".encode(),
                [sha256, run_id],
            )
    return str(run_id)


def nothing_was_run(place: Owned) -> None:
    rights = f"SELECT rolsuper FROM pg_roles WHERE rolname = '{place.owner}'"
    assert place.database.value(rights) is False


def refused(place: Owned, *arguments: str) -> str:
    """Run a command that must be refused; return what it said."""
    ended = place.run(*arguments, "--spec", "sorting.toml")
    assert ended.returncode == 3, f"{ended.args}\n{ended.stdout}\n{ended.stderr}"
    nothing_was_run(place)
    return ended.stdout + ended.stderr


def believed(place: Owned, table: str, spec: Spec = PARSED) -> str:
    """Return what is said of the recorded plan, by the code that every command asks."""
    with place.database.connect() as connection:
        row = connection.execute(f"SELECT plan, plan_sha256 FROM runbook.{table}".encode())
        found = row.fetchone()
    assert found is not None
    try:
        believed_plan(found[0], found[1], spec, run="the run", vouched=lambda sha256: False)
    except RefusedError as error:
        return error.message
    return ""


@pytest.mark.parametrize("hashed", [True, False], ids=["rehashed", "as it was"])
@pytest.mark.parametrize("how", FORGED_APPLIED)
def test_a_forged_plan_of_an_applied_run_is_not_believed(
    how: str, hashed: bool, place: Owned
) -> None:
    found = catalog_of(place.database, PARSED)
    plan = build_plan(PARSED, found, replace(ATOMIC, old_name_view=True))
    migrate(place.database, PARSED, plan=plan, catalog=found)
    assert believed(place, "ledger") == ""
    forge(place, "ledger", FORGED_APPLIED[how], hashed=hashed)
    said = believed(place, "ledger")
    if how == "a type of a column" and hashed:
        # No statement rests on it, and what is run is what this program makes.
        assert said == ""
    else:
        assert said


@pytest.mark.parametrize("how", FORGED_STOPPED)
def test_a_forged_plan_of_a_stopped_run_is_not_believed(how: str, place: Owned) -> None:
    stop_online(place.database, "backfill", PARSED)
    assert believed(place, "online_run") == ""
    forge(place, "online_run", FORGED_STOPPED[how], hashed=True)
    assert believed(place, "online_run")


def test_rollback_and_contract_say_what_was_forged(place: Owned) -> None:
    arguments = ("--mode", "online", "--old-name-view")
    assert place.run("migrate", "--spec", "sorting.toml", *arguments).returncode == 0
    forge(place, "ledger", altered("rollback", "sql"), hashed=True)
    for command in ("rollback", "contract"):
        said = refused(place, command)
        assert "is not what this version of the runbook makes" in said
        assert "statement" in said and "another sql" in said
    for command in ("verify", "status", "migrate"):
        ended = place.run(command, "--spec", "sorting.toml")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        nothing_was_run(place)


def test_a_resumed_run_and_its_rollback_say_what_was_forged(place: Owned) -> None:
    stop_online(place.database, "index", PARSED)
    forge(place, "online_run", appended("cutover"), hashed=True)
    for command in ("migrate", "rollback", "plan"):
        assert "is not what this version of the runbook makes" in refused(place, command)
    (place.folder / "FLEET.toml").write_text(
        'name = "all"\nspec = "sorting.toml"\n[[target]]\nurl = "env:DATABASE_URL"\n', "utf-8"
    )
    ended = place.run("fleet", "FLEET.toml")
    assert ended.returncode == 3, ended.stdout
    nothing_was_run(place)


def test_a_phase_that_was_moved_skips_no_row(place: Owned) -> None:
    stop_online(place.database, "backfill", PARSED)
    place.database.execute(
        "UPDATE runbook.online_run SET phase = 'cutover'",
        "UPDATE runbook.online_span SET next_block = end_block",
    )
    migrate_online(place.database, PARSED)
    wrong = "SELECT count(*) FROM app.issues WHERE status = 'open' AND kind <> 'open'"
    assert place.database.value(wrong) == 0


def test_a_bundle_of_the_archive_or_a_person_vouches_for_a_plan(place: Owned) -> None:
    """As of a former version, which recorded no inputs and wrote other statements."""
    spec = ("--spec", "sorting.toml")
    assert place.run("migrate", *spec).returncode == 0
    forge(place, "ledger", fact("inputs", {}), hashed=False)
    said = refused(place, "rollback", "--reports", "elsewhere")
    plan = place.database.value("SELECT plan_sha256 FROM runbook.ledger")
    assert "--approved-plan HASH" in said and plan[:12] in said and plan not in said
    key = place.run("keygen", "own.key")
    assert key.returncode == 0
    unsigned = ("rollback", "--trusted-key", "own.key.pub")
    assert "is not what this version" in refused(place, *unsigned)
    assert place.run("rollback", *spec).returncode == 0  # the bundle in the archive says so
    assert place.run("migrate", *spec).returncode == 0
    place.database.execute("UPDATE runbook.ledger SET plan = plan - 'inputs'")
    named = ("rollback", *spec, "--reports", "elsewhere", "--approved-plan", plan)
    assert place.run(*named).returncode == 0


# -- somebody else's ledger ------------------------------------------------------------------

OWNER = "{owner}"
FOREIGN: Mapping[str, tuple[tuple[str, ...], str]] = {
    "schema of another": (("ALTER SCHEMA runbook OWNER TO {owner}",), "schema runbook belongs to"),
    "table of another": (("ALTER TABLE runbook.ledger OWNER TO {owner}",), "belongs to role"),
    "rows of a run of another": (("ALTER TABLE runbook.online_span OWNER TO {owner}",),
                                 "runbook.online_span belongs to role"),
    "trigger": (("CREATE TRIGGER t BEFORE INSERT ON runbook.ledger FOR EACH ROW"
                 " EXECUTE FUNCTION suppress_redundant_updates_trigger()",), "has the trigger t"),
    "CHECK": (("ALTER TABLE runbook.rollback ADD CONSTRAINT k CHECK (rows >= 0)",),
              "has the constraint k"),
    "default": (("ALTER TABLE runbook.ledger ALTER client SET DEFAULT current_query()",),
                "has the default current_query()"),
    "rule": (("CREATE RULE r AS ON INSERT TO runbook.ledger DO ALSO NOTIFY x",), "has the rule r"),
    "policy": (("CREATE POLICY p ON runbook.ledger USING (true)",), "has the policy p"),
    "row-level security": (("ALTER TABLE runbook.online_run ENABLE ROW LEVEL SECURITY",),
                           "has row-level security"),
    "index expression": (("CREATE INDEX x ON runbook.ledger (lower(migration))",), "has the index"),
    "index predicate": (("CREATE INDEX x ON runbook.ledger (rows) WHERE rows > 1",),
                        "has the index"),
    "generated column": (("ALTER TABLE runbook.ledger ADD g text"
                          " GENERATED ALWAYS AS (lower(migration)) STORED",), "has the default"),
    "column of a foreign type": (("ALTER TABLE runbook.ledger ADD s app.status",), "of type"),
    "statistics": (("CREATE STATISTICS runbook.s ON lower(migration), rows FROM runbook.ledger",),
                   "has the statistics object"),
    "child": (("CREATE TABLE app.child () INHERITS (runbook.ledger)",), "is no ordinary table"),
    "view": (("ALTER TABLE runbook.ledger RENAME TO kept",
              "CREATE VIEW runbook.ledger AS SELECT * FROM runbook.kept"), "is no ordinary table"),
    "column gone": (("ALTER TABLE runbook.ledger DROP COLUMN plan",), "has no column plan"),
}  # fmt: skip


@pytest.mark.parametrize("how", FOREIGN)
def test_a_ledger_that_is_not_the_runbooks_own_is_refused_by_name(how: str, place: Owned) -> None:
    stop_online(place.database, "index", PARSED)
    migrate_online(place.database, PARSED)
    statements, said = FOREIGN[how]
    with place.database.session() as connection:
        assert ledger_problem(connection, "runbook") == ""
    place.database.execute(*(one.replace(OWNER, place.owner) for one in statements))
    with place.database.session() as connection:
        assert said in ledger_problem(connection, "runbook")
        found = read_catalog(connection, PARSED)
    assert said in found.ledger_problem
    assert found.applied is None and found.unfinished is None


def test_every_command_refuses_it(place: Owned) -> None:
    stop_online(place.database, "index", PARSED)
    place.database.execute(f"ALTER TABLE runbook.ledger OWNER TO {place.owner}")
    for command in ("review", "plan", "migrate", "verify", "rollback", "contract", "status"):
        assert f"belongs to role {place.owner}" in refused(place, command)


def test_a_schema_that_was_made_beforehand_is_refused(place: Owned) -> None:
    place.database.execute(f"GRANT CREATE ON DATABASE {place.database.name} TO {place.owner}")
    found = catalog_of(place.database, PARSED)
    plan = plan_of(place.database, PARSED)
    place.as_owner("CREATE SCHEMA runbook")
    assert f"schema runbook belongs to role {place.owner}" in refused(place, "migrate")
    # Made between the review and the run.
    with pytest.raises(BlockedError, match="schema runbook belongs to role"):
        migrate(place.database, PARSED, catalog=found, plan=plan)
    with pytest.raises(BlockedError, match="schema runbook belongs to role"):
        migrate_online(
            place.database,
            PARSED,
            catalog=found,
            plan=build_plan(PARSED, found, ONLINE),
        )
    assert place.database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'runbook'") == 0


def test_a_ledger_that_was_dropped_and_made_anew_by_another_is_refused(place: Owned) -> None:
    migrate(place.database, PARSED)
    copied = [
        f"CREATE TABLE runbook_kept.{table} AS TABLE runbook.{table}"
        for table in ("ledger", "rollback")
    ]
    place.database.execute(
        "CREATE SCHEMA runbook_kept", *copied, "DROP SCHEMA runbook CASCADE",
        f"GRANT CREATE ON DATABASE {place.database.name} TO {place.owner}",
        f"GRANT USAGE ON SCHEMA runbook_kept TO {place.owner}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA runbook_kept TO {place.owner}",
    )  # fmt: skip
    place.as_owner(
        "CREATE SCHEMA runbook", "CREATE TABLE runbook.ledger AS TABLE runbook_kept.ledger",
        "CREATE TABLE runbook.rollback AS TABLE runbook_kept.rollback",
    )  # fmt: skip
    for command in ("rollback", "verify", "migrate"):
        assert f"belongs to role {place.owner}" in refused(place, command)


def test_a_plan_that_is_made_well_of_forged_facts_reaches_no_other_table(place: Owned) -> None:
    """Whoever has this program can make a plan that it would make again."""
    place.database.execute(
        "CREATE TABLE public.victim AS TABLE app.tickets",
        "CREATE INDEX victim_kind_id_idx ON public.victim (id)",
    )
    found = catalog_of(place.database, PARSED)
    assert found.table is not None
    stop_online(place.database, "backfill", PARSED)
    partition = Partition(schema="public", name="victim", kind="r", level=1)
    table = replace(found.table, kind="p", partitions=(partition,))
    made = build_plan(PARSED, replace(found, table=table), ONLINE)
    with place.database.connect() as connection:
        connection.execute(
            "UPDATE runbook.online_run SET plan = %s::jsonb, plan_sha256 = %s",
            [json.dumps(asdict(made), default=dict), made.sha256],
        )
    assert believed(place, "online_run") == ""
    with pytest.raises(RunbookError, match="kind was"):
        migrate_online(place.database, PARSED)
    take_back(place.database, PARSED)  # of what is there: the table's own column, and no more
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.victim'::regclass"
    assert place.database.value(f"{columns} AND attname = 'kind'") == 0
    assert place.database.value("SELECT to_regclass('public.victim_kind_id_idx')") is not None


def test_the_role_that_made_the_ledger_goes_on_with_it(place: Owned) -> None:
    """And so does a superuser's where a member runs, as long as it may write."""
    spec = ("--spec", "sorting.toml")
    place.database.execute(f"GRANT CREATE ON DATABASE {place.database.name} TO {place.owner}")
    for command in ("migrate", "verify", "rollback"):
        ended = place.run(command, *spec, role=place.owner)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"belongs to role {place.owner}" in refused(place, "migrate")


def test_every_table_of_the_ledger_is_looked_at(sample_newest: Database) -> None:
    stop_online(sample_newest)
    made = "SELECT array_agg(relname ORDER BY relname) FROM pg_class WHERE relkind = 'r'"
    made += " AND relnamespace = 'runbook'::regnamespace"
    assert sample_newest.value(made) == sorted(TABLES)
    assert uuid.UUID(sample_newest.value("SELECT run_id::text FROM runbook.online_run"))


# -- facts that are forged with care ---------------------------------------------------------


def remake(place: Owned, how: Forgery) -> Plan:
    """Forge the facts of the stopped run, and have this program make its statements and its hash
    of them; return that plan, which is recorded."""
    place.database.execute(
        f"GRANT USAGE ON SCHEMA runbook TO {place.owner}",
        f"GRANT SELECT, INSERT, UPDATE ON runbook.online_run TO {place.owner}",
    )
    with psycopg.connect(place.connected_as(place.owner).conninfo, autocommit=True) as connection:
        row = connection.execute("SELECT plan FROM runbook.online_run").fetchone()
        assert row is not None
        how(row[0])
        catalog, options = _inputs(Plan.of(row[0]))
        made = build_plan(PARSED, catalog, options)
        connection.execute(
            "UPDATE runbook.online_run SET plan = %s, plan_sha256 = %s",
            [json.dumps(asdict(made), default=dict), made.sha256],
        )
    return made


def more(kind: str, name: str, **values: Any) -> Forgery:
    """Add a fact of a kind that the plan adds itself, like one that is there."""
    likes = {
        "columns": {"name": "", "type": "text", "not_null": False, "default": None,
                    "generated": "", "identity": ""},
        "constraints": {"name": "", "kind": "c", "definition": "CHECK (true)", "validated": True},
        "indexes": {"name": "", "definition": "", "columns": [], "valid": True,
                    "of_constraint": False},
    }  # fmt: skip
    like = likes.get(kind, {"name": "", "definition": ""})

    def forge(plan: dict[str, Any]) -> None:
        plan["facts"]["table"][kind].append({**like, **values, "name": name})

    return forge


GAINED = "NULL; CREATE ROLE {role} SUPERUSER"
WITH_VIEW = replace(ONLINE, old_name_view=True)


def stopped_with_view(place: Owned, phase: str = "index") -> Plan:
    """Leave an online run that is to leave a view."""
    plan = build_plan(PARSED, catalog_of(place.database, PARSED), WITH_VIEW)

    def tell(now: str, text: str, share: float) -> None:
        if now == phase and text == "begins":
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        migrate_online(place.database, PARSED, plan=plan, tell=tell)
    return plan


def no_role(place: Owned, role: str) -> None:
    assert place.database.value(f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == 0


@pytest.mark.parametrize(
    "kind", ["columns", "constraints", "indexes", "update_triggers", "before_triggers"]
)
def test_recorded_facts_that_hold_what_the_plan_adds_are_refused(kind: str, place: Owned) -> None:
    """A fact that is left out of the comparison with the table would reach SQL unseen."""
    plan, role = stopped_with_view(place), f"gained_{place.owner}"
    name = plan.adds[kind][0]
    evil = {"default": GAINED.format(role=role)} if kind == "columns" else {}
    made = remake(place, more(kind, name, **evil))
    assert any(role in one.sql for one in made.statements) == bool(evil)
    assert remade(made, PARSED) is None
    with pytest.raises(RefusedError, match="is not what this version of the runbook makes"):
        resumed_plan(PARSED, catalog_of(place.database, PARSED), "auto")
    # And where somebody vouches for the plan.
    with pytest.raises(RunbookError, match=f"{kind}.{name} is "):
        migrate_online(place.database, PARSED, plan=made)
    no_role(place, role)


def test_recorded_facts_that_are_not_the_tables_are_neither_run_nor_shown(place: Owned) -> None:
    """A default goes into SQL as it is printed."""
    stopped_with_view(place)
    role = f"gained_{place.owner}"
    made = remake(place, fact("facts.table.columns.3.default", GAINED.format(role=role)))
    assert believed(place, "online_run") == "" and any(role in one.sql for one in made.statements)
    said = refused(place, "plan")  # and every other command that makes a plan
    assert "changed after the plan was made: table.columns.note.default was" in said
    with pytest.raises(RunbookError, match=r"note\.default was"):
        migrate_online(place.database, PARSED, plan=made)
    take_back(place.database, PARSED)
    no_role(place, role)


def test_a_view_gives_nobody_a_right_that_the_table_does_not_give(place: Owned) -> None:
    """The hash covers no right, and the statements are made of them."""
    place.as_owner("GRANT SELECT ON app.tickets TO pg_monitor")
    stopped_with_view(place)

    def refuses(what: str) -> None:
        with pytest.raises(RefusedError, match=what):
            resumed_plan(PARSED, catalog_of(place.database, PARSED), "auto")
        with pytest.raises(RunbookError, match=what):
            migrate_online(place.database, PARSED)

    forged = [{"role": "pg_monitor", "column": None, "rights": ["SELECT", "UPDATE"],
               "grantable": False}]  # fmt: skip
    remake(place, fact("inputs.table.grants", forged))
    refuses("pg_monitor had UPDATE, and has it no more")
    remake(place, fact("inputs.table.owner", "pg_monitor"))
    refuses("the table's owner was pg_monitor")
    kept = forged[0] | {"rights": ["SELECT"]}
    remake(place, fact("inputs.table", {"owner": place.owner, "heap_bytes": 0, "index_bytes": 0,
                                        "grants": [kept]}))  # fmt: skip
    # A right that came since forbids nothing.
    place.as_owner("GRANT DELETE ON app.tickets TO pg_monitor")
    migrate_online(place.database, PARSED)


# -- one statement is one ----------------------------------------------------------------------

MORE = "; CREATE TABLE public.gained ()"


def with_more(plan: Plan, role: Role, phase: Phase | None = None) -> Plan:
    """Return the plan with a second statement in the text of the last of a role."""
    found = [one for one in plan.statements if one.role is role and phase in (None, one.phase)]
    other = replace(found[-1], sql=found[-1].sql + MORE)
    return replace(
        plan, statements=tuple(other if one is found[-1] else one for one in plan.statements)
    )


def test_a_text_of_several_statements_is_refused_and_nothing_is_prepared(
    sample_newest: Database,
) -> None:
    with sample_newest.session() as connection:
        assert execute_single(connection, "SELECT 1, 'a%s'").fetchone() == (1, "a%s")
        assert execute_single(connection, "SELECT $1::int", [2]).fetchone() == (2,)
        for values in ([], [1]):
            with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
                execute_single(connection, "SELECT 1; SELECT 2", values)
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (0,)


ATOMIC_ROLES = [Role.SETTING, Role.LOCK, Role.CHANGE, Role.TALLY_BEFORE, Role.BOUNDS,
                Role.DIGEST_AFTER, Role.SAVEPOINT]  # fmt: skip


@pytest.mark.parametrize("role", ATOMIC_ROLES)
def test_an_atomic_plan_runs_no_second_statement(role: Role, place: Owned) -> None:
    options = replace(ATOMIC, proof="sha256")
    plan = build_plan(PARSED, catalog_of(place.database, PARSED), options)
    with pytest.raises(RunbookError, match="42601: cannot insert multiple commands"):
        migrate(place.database, PARSED, plan=with_more(plan, role, Phase.ATOMIC))
    assert place.database.value("SELECT to_regclass('public.gained')") is None


@pytest.mark.parametrize("role", [Role.SETTING, Role.BATCH, Role.CONCURRENT])
def test_an_online_plan_runs_no_second_statement(role: Role, place: Owned) -> None:
    plan = build_plan(PARSED, catalog_of(place.database, PARSED), ONLINE)
    phase = Phase.BACKFILL if role is Role.SETTING else None
    with pytest.raises(RunbookError, match="42601: cannot insert multiple commands"):
        migrate_online(place.database, PARSED, plan=with_more(plan, role, phase))
    assert place.database.value("SELECT to_regclass('public.gained')") is None


def test_a_query_of_an_online_plan_runs_no_second_statement(place: Owned) -> None:
    """It is left out where it cannot be asked, and the proof says so."""
    plan = build_plan(PARSED, catalog_of(place.database, PARSED), ONLINE)
    for role in (Role.TALLY_BEFORE, Role.TALLY_AFTER, Role.SWEEP):
        plan = with_more(plan, role, Phase.BACKFILL)
    with contextlib.suppress(RunbookError):
        migrate_online(place.database, PARSED, plan=plan)
    assert place.database.value("SELECT to_regclass('public.gained')") is None


# -- rows of the ledger that others may write -------------------------------------------------

SPEC_FILE = ("--spec", "sorting.toml")
COPIED = (
    "INSERT INTO runbook.ledger SELECT gen_random_uuid(), migration, table_schema, table_before,"
    " table_after, table_oid, spec_sha256, plan_sha256, mode, tool_version, applied_by, client,"
    " applied_at + interval '1 microsecond', rows, categories, unvalidated, algorithm, {forged},"
    " plan FROM runbook.ledger"
)


def open_ledger(place: Owned) -> None:
    place.database.execute(
        f"GRANT USAGE ON SCHEMA runbook TO {place.owner}",
        f"GRANT SELECT, INSERT ON runbook.ledger, runbook.rollback TO {place.owner}",
    )


def said_by(place: Owned, *arguments: str, code: int = 0) -> str:
    ended = place.run(*arguments, *SPEC_FILE)
    assert ended.returncode == code, f"{ended.args}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


def findings_in(place: Owned, step: str, reports: str = "reports") -> list[str]:
    """Return the codes that the newest bundle of a step has."""
    (*_, newest) = sorted((place.folder / reports).glob(f"*-{step}-*/manifest.json"))
    found: list[str] = [one["code"] for one in json.loads(newest.read_text())["findings"]]
    return found


@pytest.mark.parametrize(
    "granted",
    ["INSERT ON runbook.ledger TO {owner}", "UPDATE (hashes) ON runbook.ledger TO {owner}",
     "DELETE ON runbook.online_span TO {owner}", "TRUNCATE ON runbook.rollback TO PUBLIC",
     "{owner}_group TO {owner}", "pg_write_all_data TO {owner}"],
)  # fmt: skip
def test_whoever_may_write_the_ledger_is_found(granted: str, place: Owned) -> None:
    stop_online(place.database, "index", PARSED)
    with place.database.session() as connection:
        assert ledger_writers(connection, "runbook") == ()
    place.database.execute(
        f"CREATE ROLE {place.owner}_group",
        f"GRANT SELECT ON runbook.ledger TO {place.owner}",
        f"GRANT UPDATE ON runbook.rollback TO {place.owner}_group",
    )
    with place.database.session() as connection:
        assert ledger_writers(connection, "runbook") == (f"{place.owner}_group",)
    place.database.execute(f"GRANT {granted.format(owner=place.owner)}")
    with place.database.session() as connection:
        found = ledger_writers(connection, "runbook")
    assert ("PUBLIC" if "PUBLIC" in granted else place.owner) in found
    # What gains nothing by it may write: the connected role itself.
    if "TO {owner}" in granted and "UPDATE" in granted:
        with psycopg.connect(place.connected_as(place.owner).conninfo) as own:
            assert place.owner not in ledger_writers(own, "runbook")
    place.database.execute(f"DROP OWNED BY {place.owner}_group")
    place.database.execute(f"DROP ROLE {place.owner}_group")


def test_a_row_that_others_may_write_satisfies_no_approval(place: Owned) -> None:
    """A migration that nobody ran, recorded with the approved plan."""
    found = catalog_of(place.database, PARSED)
    approved = build_plan(PARSED, found, ATOMIC)
    migrate(place.database, PARSED, plan=approved, catalog=found)
    open_ledger(place)
    hashed = ("migrate", "--approved-plan", approved.sha256)
    said = refused(place, *hashed)
    assert f"role '{place.owner}' may write it" in said and "no more than what the ledger" in said
    said = said_by(place, "migrate")
    assert "The ledger says that Sorting was applied" in said and "may write it" in said
    assert findings_in(place, "migrate") == ["ledger-unproved"]


@pytest.mark.soak
def test_every_command_says_whose_word_it_is(place: Owned) -> None:
    stop_online(place.database, "index", PARSED)
    open_ledger(place)
    for command in ("status", "migrate"):
        assert "may write it" in said_by(place, command)
    assert "ledger-unproved" in findings_in(place, "migrate")
    for command in ("review", "plan", "verify", "status"):
        assert "may write it" in said_by(place, command)
    # Nobody but trusted roles can have written it.
    place.database.execute(f"REVOKE ALL ON runbook.ledger, runbook.rollback FROM {place.owner}")
    for command in ("review", "verify", "status", "migrate"):
        assert "may write it" not in said_by(place, command)


def test_a_foreign_key_is_known_as_not_valid_by_the_plan_alone(place: Owned) -> None:
    place.as_owner(
        "CREATE TABLE app.parents (id integer PRIMARY KEY)",
        "INSERT INTO app.parents SELECT generate_series(0, 6)",
        "ALTER TABLE app.tickets ADD CONSTRAINT known FOREIGN KEY (size) REFERENCES app.parents"
        " NOT VALID",
    )
    migrate(place.database, PARSED)
    place.as_owner(
        "ALTER TABLE app.issues ADD CONSTRAINT fk FOREIGN KEY (size) REFERENCES app.parents"
        " NOT VALID"
    )
    place.database.execute('UPDATE runbook.ledger SET unvalidated = \'["known", "fk"]\'')
    assert check(place.database, PARSED)["foreign-keys"].observed == ["fk"]
    # A plan that is not the hashed one says nothing.
    place.database.execute("UPDATE runbook.ledger SET plan_sha256 = repeat('0', 64)")
    assert check(place.database, PARSED)["foreign-keys"].observed == ["fk", "known"]
    entry = catalog_of(place.database, PARSED).applied
    assert entry is not None and "the row says 000000000000" in altered_row(entry)


@pytest.mark.parametrize("column", ["mode", "table_before", "spec_sha256", "migration"])
def test_a_row_that_says_other_than_its_plan_is_altered(column: str, place: Owned) -> None:
    migrate(place.database, PARSED)
    entry = catalog_of(place.database, PARSED).applied
    assert entry is not None and why_unproved(entry, ()) == ""
    names: dict[str, Any] = {column: "other"}
    other = replace(entry, **names)
    assert "and the row 'other'" in why_unproved(other, ())
    assert why_unproved(replace(entry, plan={}), ()).endswith("cannot be read")


def test_a_rollback_claims_no_more_than_a_bundle_vouches_for(place: Owned) -> None:
    migrate(place.database, PARSED)
    open_ledger(place)
    place.as_owner("UPDATE app.issues SET note = 'altered' WHERE note IS NOT NULL")
    with place.database.session() as connection:
        recorded = read_recorded(connection, "runbook", PARSED)
        assert recorded is not None
        now = tally(connection, Plan.of(recorded.plan), Role.TALLY_BEFORE, Journal())
    place.as_owner(COPIED.format(forged=f"'{now.fingerprint}', '{now.fingerprint}'"))
    said = said_by(place, "rollback")
    assert "every row is as it was" not in said and f"role '{place.owner}' may write it" in said
    assert "proves nothing" in said and "as the ledger has it from before" in said
    assert findings_in(place, "rollback") == ["ledger-unproved"]


def test_a_bundle_that_a_trusted_key_signed_vouches_for_its_run(place: Owned) -> None:
    own, other = (make_key(place.folder / f"{name}.key") for name in ("own", "other"))
    said_by(place, "migrate", "--mode", "atomic", "--signing-key", "own.key")
    open_ledger(place)
    found = catalog_of(place.database, PARSED)
    assert found.applied is not None and found.ledger_writers == (place.owner,)
    store = open_store(str(place.folder / "reports"))

    def vouches(keys: tuple[str, ...] = (), **altered: Any) -> bool:
        assert found.applied is not None
        entry = replace(found.applied, **altered)
        return bool(vouching_run(store, entry, found.server, keys))

    assert vouches() and vouches((own,)) and not vouches((other,))
    for name in ("run_id", "plan_sha256", "hashes", "fingerprint", "migration"):
        altered: dict[str, Any] = {name: "0" * 32}
        assert not vouches((), **altered)
    assert not vouches(rows=301)
    said = said_by(place, "rollback", "--trusted-key", own)
    assert "every row is as it was before the migration" in said and "may write it" not in said
