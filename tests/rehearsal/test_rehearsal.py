"""A rehearsal: up, down and up again on a copy that is gone afterwards; the table is only read."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from runbook.errors import RefusedError
from runbook.rehearsal import Leg
from runbook.rehearsal.copy import LEDGER, PREFIX, Place, claim
from tests.cases import CASES
from tests.conftest import MAJORS, NEWEST, Cluster, Database, cluster_of
from tests.own_server import server_with_sample
from tests.rehearsal.rehearsing import hash_of, rehearsing, there_and_back
from tests.state import database_state

PLACES: tuple[Place, ...] = ("database", "schema", "embedded")
KEYS = "foreign keys"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the embedded server where its account can reach it."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    monkeypatch.chdir(tmp_path)


def left(database: Database) -> set[str]:
    """Return what rehearsals have left on the server and on the disk."""
    names = database.value(
        "SELECT array(SELECT datname FROM pg_database UNION ALL SELECT nspname FROM pg_namespace)"
    )
    folders = Path(".runbook").glob("*")
    return {str(name) for name in (*names, *(one.name for one in folders)) if PREFIX in str(name)}


def held(legs: list[Leg]) -> None:
    """Hold that each leg was proved and checked, and that the times add up."""
    assert [leg.name for leg in legs] == ["up", "down", "up again"]
    for leg in legs:
        assert leg.passed and leg.checks, (leg.name, leg.says, leg.checks)
        assert 0 < leg.locked_ms <= leg.ms and 0 <= leg.grows_ms <= leg.ms
        assert 0 <= leg.locked_grows_ms <= leg.locked_ms


@pytest.mark.parametrize(
    ("major", "place"),
    [
        *((major, place) for major in MAJORS for place in ("database", "schema")),
        (MAJORS[0], "embedded"),  # one version is enough for what is another server anyway
    ],
)
def test_the_copy_goes_up_down_and_up_again_and_nothing_of_it_is_left(
    major: int, place: Place, clusters: dict[int, Any]
) -> None:
    cluster = cluster_of(clusters, major)
    sample = cluster.sample()
    with sample.connect() as connection:
        before = database_state(connection)
        with rehearsing(sample, place) as under_way:
            legs = there_and_back(under_way)
            assert under_way.copy.rows == 4052
            assert under_way.plan is not None
            same = under_way.plan.sha256 == hash_of(sample)
            if place == "database":
                assert same and under_way.copy.lacks == ()
            assert left(sample), "it is there while it is needed"
        held(legs)
        assert database_state(connection) == before
        assert left(sample) == set()
    cluster.drop(sample)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param(name, place, marks=() if (n + m) % 2 else pytest.mark.soak)
        for n, name in enumerate(CASES)
        for m, place in enumerate(("database", "schema"))
    ],
)
@pytest.mark.parametrize("mode", ["atomic", "online"])
@pytest.mark.parametrize("major", NEWEST)
def test_every_kind_of_migration_can_be_rehearsed(
    name: str, place: Place, mode: str, major: int, clusters: dict[int, Any]
) -> None:
    case, cluster = CASES[name], cluster_of(clusters, major)
    database = case.make(cluster)
    with database.connect() as connection:
        before = database_state(connection)
        try:
            with rehearsing(database, place, case.spec, mode=mode, **case.options) as under_way:
                held(there_and_back(under_way))
                assert place == "schema" or under_way.copy.lacks == ()
        except RefusedError as error:
            assert (name, place) == ("partitioned", "schema"), error
        assert database_state(connection) == before
    assert left(database) == set()
    cluster.drop(database)


@pytest.mark.parametrize("place", ["database", "schema"])
def test_a_sample_is_a_part_of_the_rows(place: Place, sample_newest: Database) -> None:
    with rehearsing(sample_newest, place, rows=1000, mode="online") as under_way:
        assert 0 < under_way.copy.rows <= 1000
        held(there_and_back(under_way))
        assert under_way.plan is not None
        assert under_way.plan.predicted["ENRICHED"] == 3770, "by the rows of the original"


TOUCH = (
    "ALTER TABLE enrichment_logs ADD COLUMN updated_at timestamptz",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN new.updated_at := clock_timestamp(); RETURN new; END$$",
    "CREATE TRIGGER touch BEFORE UPDATE ON enrichment_logs FOR EACH ROW EXECUTE FUNCTION touch()",
)


def test_what_would_fail_fails_in_the_rehearsal_and_the_table_is_as_it_was(
    sample: Database,
) -> None:
    sample.execute(*TOUCH)
    with sample.connect() as connection:
        before = database_state(connection)
        with (
            pytest.raises(RefusedError, match="on its way up: The proof failed") as refused,
            rehearsing(sample, "database") as under_way,
        ):
            under_way.up("up")
        assert "Nothing was changed but the scratch copy" in refused.value.remedy
        assert database_state(connection) == before and left(sample) == set()


def test_a_scratch_schema_has_no_triggers_and_says_so(sample_newest: Database) -> None:
    sample_newest.execute(*TOUCH)
    with rehearsing(sample_newest, "schema") as under_way:
        assert {"triggers: touch", f"4 {KEYS}"} <= set(under_way.copy.lacks)
        held(there_and_back(under_way))


@pytest.fixture
def role(newest: Cluster) -> Iterator[str]:
    """A role with few rights."""
    newest.execute("CREATE ROLE rehearser LOGIN")
    yield "rehearser"
    newest.execute("DROP ROLE rehearser")


@pytest.fixture
def owned(newest: Cluster, role: str) -> Iterator[Database]:
    """A database that belongs to that role, as does the table in it."""
    database = newest.sample()
    newest.execute(f"ALTER DATABASE {database.name} OWNER TO {role}")
    tables = ("enrichment_logs", "artists", "albums", "tracks", '"User"')
    database.execute(
        f"GRANT CREATE ON SCHEMA public TO {role}",
        *(f"ALTER TABLE {table} OWNER TO {role}" for table in tables),
    )
    yield database
    newest.drop(database)


def test_a_role_without_createdb_is_told_what_to_do(owned: Database, role: str) -> None:
    conninfo = make_conninfo(owned.conninfo, user=role)
    with (
        pytest.raises(RefusedError, match="permission denied to create database") as refused,
        rehearsing(owned, "database", conninfo=conninfo),
    ):
        pass
    assert "CREATEDB" in refused.value.remedy and "--scratch schema" in refused.value.remedy
    with rehearsing(owned, "schema", conninfo=conninfo) as under_way:
        held(there_and_back(under_way))
    assert left(owned) == set()


def test_without_the_right_to_hold_keys_back_they_are_left_out_and_that_is_said(
    owned: Database, role: str, newest: Cluster
) -> None:
    newest.execute(f"ALTER ROLE {role} CREATEDB")
    with rehearsing(
        owned, "database", conninfo=make_conninfo(owned.conninfo, user=role)
    ) as under_way:
        assert f"{KEYS.split(maxsplit=1)[0]} key" in " ".join(under_way.copy.lacks)
        held(there_and_back(under_way))
    assert left(owned) == set()


def test_another_server_is_out_of_the_copys_reach(sample_newest: Database) -> None:
    sample_newest.execute(
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE remote (n integer) SERVER elsewhere",
    )
    with (
        rehearsing(sample_newest, "database") as under_way,
        under_way.copy.connect() as connection,
    ):
        found = connection.execute("SELECT count(*) FROM pg_foreign_server").fetchone()
        assert found == (0,)


def test_what_a_killed_rehearsal_left_is_removed_by_the_next_and_what_is_in_use_is_not(
    sample_newest: Database, newest: Cluster
) -> None:
    oid = sample_newest.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    dead, alive = (f"{PREFIX}{oid}_{name}" for name in ("dead", "alive"))
    for name in (dead, alive):
        sample_newest.execute(f"CREATE SCHEMA {name}", f"CREATE SCHEMA {name}{LEDGER}")
        newest.execute(f"CREATE DATABASE {name}")
    try:
        with sample_newest.connect() as other:
            claim(other, alive)
            for place in PLACES[:2]:
                with rehearsing(sample_newest, place):
                    pass
            assert left(sample_newest) == {alive, f"{alive}{LEDGER}"}
    finally:
        for name in (dead, alive):
            newest.execute(f"DROP DATABASE IF EXISTS {name}")


def test_rehearsals_of_two_databases_leave_each_other_alone(newest: Cluster) -> None:
    """Advisory locks are of one database, so a claim in one is not seen from the other."""
    first, second = newest.sample(), newest.sample()
    with rehearsing(first, "database") as one, rehearsing(second, "database") as another:
        held(there_and_back(one))
        held(there_and_back(another))
    assert left(first) == set()
    for database in (first, second):
        newest.drop(database)


def test_a_password_reaches_no_process_list(monkeypatch: pytest.MonkeyPatch) -> None:
    password, seen = "correct horse'battery", []
    real = subprocess.Popen.__init__

    def noted(self: Any, args: Any, **more: Any) -> None:
        seen.append(list(args) if not isinstance(args, str) else [args])
        real(self, args, **more)

    with server_with_sample(password) as server:
        url = server.tcp_url("template")
        database = Database(
            name="template", conninfo=url, major=MAJORS[-1], binaries=Path("/nowhere")
        )
        monkeypatch.setattr(subprocess.Popen, "__init__", noted)
        with rehearsing(database, "database") as under_way:
            held(there_and_back(under_way))
    programs = {Path(one[0]).name for one in seen}
    assert {"pg_dump", "pg_restore"} <= programs
    assert not [one for one in seen if "horse" in " ".join(map(str, one))]


def test_an_index_is_told_from_the_others_by_its_place(sample_newest: Database) -> None:
    """A name may be one that PostgreSQL gives to another index of the copy."""
    names = ("enrichment_logs_user_id_idx", "enrichment_logs_operation_idx")
    sample_newest.execute(
        f"ALTER INDEX {names[0]} RENAME TO swapped",
        f"ALTER INDEX {names[1]} RENAME TO {names[0]}",
        f"ALTER INDEX swapped RENAME TO {names[1]}",
    )
    definitions = "SELECT array_agg(pg_get_indexdef(indexrelid) ORDER BY 1) FROM pg_index"
    original = sample_newest.value(f"{definitions} WHERE indrelid = 'enrichment_logs'::regclass")
    with rehearsing(sample_newest, "schema") as under_way:
        schema = under_way.copy.spec.schema_
        copied = sample_newest.value(
            f"{definitions} WHERE indrelid = '{schema}.enrichment_logs'::regclass"
        )
    assert [one.replace(f" {schema}.", " public.") for one in copied] == original
