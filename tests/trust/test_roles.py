"""Which roles gain nothing by code that runs as a member of theirs: those that lack nothing."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from runbook import sql
from runbook.catalog import read_catalog
from runbook.plan import Options, build_plan
from runbook.run import apply_atomic
from runbook.run.online import Journal, Limits, apply_online
from runbook.spec import parse_spec
from runbook.trust.roles import is_trusted
from tests.conftest import NEWEST, Cluster, cluster_of
from tests.trust.owners import SPEC, Owned, owned


@dataclass(frozen=True, kw_only=True)
class Member:
    """A role that is a member of the table's owner, beside two others."""

    place: Owned
    name: str
    vault: str
    """Owns what is neither the member's nor the owner's."""
    group: str

    def run(self, *statements: str) -> None:
        """Execute statements as a superuser, the roles' names put in."""
        names = {"m": self.name, "o": self.place.owner, "v": self.vault, "g": self.group}
        names |= {"db": self.place.database.name}
        self.place.database.execute(*(one.format(**names) for one in statements))

    def trusts_owner(self) -> bool:
        """Return whether the owner gains nothing where its code runs as the member."""
        query = sql.render(
            "SELECT {trusted} FROM pg_roles role WHERE rolname = {owner}",
            trusted=is_trusted("role", "runbook"),
            owner=sql.value(self.place.owner),
        )
        with self.place.connected_as(self.name).session() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return bool(row[0])


@pytest.fixture(scope="module", params=NEWEST, ids=lambda major: f"pg{major}")
def member(
    request: pytest.FixtureRequest,
    clusters: dict[int, Cluster],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Member]:
    with joined(cluster_of(clusters, request.param), tmp_path_factory.mktemp("roles")) as one:
        yield one


@contextmanager
def joined(cluster: Cluster, folder: Path) -> Iterator[Member]:
    """Yield a member; all that is made for it goes afterwards."""
    with owned(cluster, folder) as place:
        names = [f"{one}_{uuid.uuid4().hex[:10]}" for one in ("member", "vault", "group")]
        made = Member(place=place, name=names[0], vault=names[1], group=names[2])
        made.run("CREATE ROLE {m} LOGIN IN ROLE {o}", "CREATE ROLE {v}", "CREATE ROLE {g}")
        try:
            made.run(*SCENE)
            yield made
        finally:
            made.run("ALTER DATABASE {db} OWNER TO postgres")
            for role in ("{v}", "{g}", "{m}"):
                made.run(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


SCENE = (
    "CREATE SCHEMA vault AUTHORIZATION {v}",
    "CREATE TABLE vault.t (secret text, more text)",
    "ALTER TABLE vault.t OWNER TO {v}",
    "ALTER TABLE vault.t ENABLE ROW LEVEL SECURITY",
    "GRANT USAGE ON SCHEMA vault TO {m}, {o}",
    "CREATE FOREIGN DATA WRAPPER nobodys",
    "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nobodys",
    "GRANT USAGE ON FOREIGN SERVER elsewhere TO {m}, {o}",
    # What the runbook itself asks for.
    "GRANT CREATE ON DATABASE {db} TO {m}",
    "GRANT CREATE, USAGE ON SCHEMA app TO {m}, {o}",
)


MORE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a parameter": (
        ("GRANT SET ON PARAMETER session_replication_role TO {m}",),
        ("GRANT SET ON PARAMETER session_replication_role TO {o}",)),
    "a parameter that it may set for all": (
        ("GRANT SET ON PARAMETER lo_compat_privileges TO {o}",
         "GRANT ALTER SYSTEM ON PARAMETER lo_compat_privileges TO {m}"),
        ("GRANT ALTER SYSTEM ON PARAMETER lo_compat_privileges TO {o}",)),
    "a setting that only a superuser may give it": (
        ("ALTER ROLE {m} SET session_replication_role = replica",), ("ALTER ROLE {m} RESET ALL",)),
    "a user mapping": (
        ("CREATE USER MAPPING FOR {m} SERVER elsewhere OPTIONS (password 'secret')",),
        ("DROP USER MAPPING FOR {m} SERVER elsewhere",)),
    "a grant option": (
        ("GRANT SELECT ON vault.t TO {o}", "GRANT SELECT ON vault.t TO {m} WITH GRANT OPTION"),
        ("GRANT SELECT ON vault.t TO {o} WITH GRANT OPTION",)),
    "a grant option for the database": (
        ("GRANT CREATE ON DATABASE {db} TO {m} WITH GRANT OPTION",),
        ("REVOKE GRANT OPTION FOR CREATE ON DATABASE {db} FROM {m}",)),
    "a right on a column": (
        ("GRANT UPDATE (more) ON vault.t TO {m}",), ("GRANT UPDATE ON vault.t TO {o}",)),
    "a right on another column": (
        ("GRANT INSERT (more) ON vault.t TO {m}", "GRANT INSERT (secret) ON vault.t TO {o}"),
        ("GRANT INSERT (more) ON vault.t TO {o}",)),
    "a right on a sequence": (
        ("CREATE SEQUENCE vault.s", "ALTER SEQUENCE vault.s OWNER TO {v}",
         "GRANT USAGE ON SEQUENCE vault.s TO {m}"), ("GRANT USAGE ON SEQUENCE vault.s TO {o}",)),
    "a right on a trigger function": (
        ("CREATE FUNCTION vault.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
         "REVOKE EXECUTE ON FUNCTION vault.f() FROM PUBLIC",
         "GRANT EXECUTE ON FUNCTION vault.f() TO {m}"),
        ("GRANT EXECUTE ON FUNCTION vault.f() TO PUBLIC",)),
    "a right on what is made later": (
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {v} GRANT SELECT ON TABLES TO {m}",),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE {v} GRANT SELECT ON TABLES TO {o}",)),
    "a right on a large object": (
        ("SELECT lo_create(4711)", "GRANT SELECT ON LARGE OBJECT 4711 TO {m}"),
        ("GRANT SELECT ON LARGE OBJECT 4711 TO {o}",)),
    "a policy": (
        ("CREATE POLICY p ON vault.t TO {m} USING (true)",),
        ("ALTER POLICY p ON vault.t TO {m}, {o}",)),
    "a role that it may grant": (
        ("GRANT {g} TO {o}", "GRANT {g} TO {m} WITH ADMIN OPTION"),
        ("GRANT {g} TO {o} WITH ADMIN OPTION",)),
    "a predefined role": (
        ("GRANT pg_read_server_files TO {m}",), ("GRANT pg_read_server_files TO {o}",)),
    "CREATEDB": (("ALTER ROLE {m} CREATEDB",), ("ALTER ROLE {o} CREATEDB",)),
    "BYPASSRLS": (("ALTER ROLE {m} BYPASSRLS",), ("ALTER ROLE {o} BYPASSRLS",)),
    "REPLICATION": (("ALTER ROLE {m} REPLICATION",), ("ALTER ROLE {o} REPLICATION",)),
    "the database": (("ALTER DATABASE {db} OWNER TO {m}",), ("ALTER DATABASE {db} OWNER TO {o}",)),
    "a sequence of its own": (
        ("CREATE SEQUENCE app.own", "ALTER SEQUENCE app.own OWNER TO {m}"),
        ("DROP SEQUENCE app.own",)),
    "a view of its own": (
        ("CREATE VIEW app.own AS SELECT FROM app.tickets", "ALTER VIEW app.own OWNER TO {m}"),
        ("DROP VIEW app.own",)),
    "a domain of its own": (
        ("CREATE DOMAIN app.own AS text", "ALTER DOMAIN app.own OWNER TO {m}"),
        ("DROP DOMAIN app.own",)),
    "a publication of its own": (
        ("CREATE PUBLICATION own", "ALTER PUBLICATION own OWNER TO {m}"),
        ("DROP PUBLICATION own",)),
    "a server of its own": (
        ("CREATE SERVER own FOREIGN DATA WRAPPER nobodys",
         "GRANT USAGE ON FOREIGN DATA WRAPPER nobodys TO {m}, {o}",
         "ALTER SERVER own OWNER TO {m}"), ("DROP SERVER own",)),
    "a collation of its own": (
        ("CREATE COLLATION app.own (LOCALE = 'C')", "ALTER COLLATION app.own OWNER TO {m}"),
        ("DROP COLLATION app.own",)),
    "an enum that others use": (
        ("CREATE TYPE app.own AS ENUM ('a')", "ALTER TYPE app.own OWNER TO {m}",
         "ALTER TABLE vault.t ADD own app.own[]"), ("ALTER TABLE vault.t DROP own",)),
    "a trigger function that others use": (
        ("CREATE FUNCTION app.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
         "ALTER FUNCTION app.own() OWNER TO {m}",
         "CREATE TRIGGER own AFTER INSERT ON vault.t EXECUTE FUNCTION app.own()"),
        ("DROP TRIGGER own ON vault.t",)),
    "something in the ledger's schema": (
        ("CREATE SCHEMA runbook AUTHORIZATION {m}", "CREATE TABLE runbook.ledger ()",
         "ALTER TABLE runbook.ledger OWNER TO {m}", "CREATE TABLE runbook.kept ()"),
        ("DROP TABLE runbook.kept",)),
}  # fmt: skip
"""What the member has and the owner has not, and what makes them equal again."""


@pytest.mark.parametrize("what", MORE)
def test_who_lacks_something_of_the_members_is_not_trusted(what: str, member: Member) -> None:
    more, equal = MORE[what]
    assert member.trusts_owner()
    member.run(*more)
    assert not member.trusts_owner()
    member.run(*equal)
    assert member.trusts_owner()


LESS: dict[str, tuple[str, ...]] = {
    "what the owner gave it": ("GRANT SELECT ON app.tickets TO {m} WITH GRANT OPTION",),
    "what everybody has": ("GRANT SELECT (secret) ON vault.t TO {m}, PUBLIC",),
    "a policy on the owner's table": ("CREATE POLICY q ON app.tickets TO {m} USING (true)",),
    "a policy that only hides": ("CREATE POLICY q ON vault.t AS RESTRICTIVE TO {m} USING (false)",),
    "settings that only tell": (
        "ALTER ROLE {m} SET log_statement = 'all'",
        "ALTER ROLE {m} SET work_mem = '8MB'",
        "ALTER ROLE {m} SET temp_file_limit = '1GB'",
    ),
    "defaults for what it makes": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {m} GRANT SELECT ON TABLES TO {v}",
    ),
    "an enum that the owner uses": (
        "CREATE TYPE app.kind AS ENUM ('a')",
        "ALTER TYPE app.kind OWNER TO {m}",
        "ALTER TABLE app.tickets ADD kind app.kind DEFAULT 'a', ADD many app.kind[]",
        "CREATE INDEX ON app.tickets (id) WHERE kind = 'a'",
        "CREATE FUNCTION app.told(app.kind) RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
        "ALTER FUNCTION app.told(app.kind) OWNER TO {o}",
    ),
    "a trigger function of the owner's table": (
        "CREATE FUNCTION app.fills() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER FUNCTION app.fills() OWNER TO {m}",
        "CREATE TRIGGER t BEFORE UPDATE ON app.tickets FOR EACH ROW EXECUTE FUNCTION app.fills()",
    ),
}


@pytest.mark.parametrize("what", LESS)
def test_who_lacks_nothing_is_trusted(what: str, member: Member) -> None:
    member.run(*LESS[what])
    assert member.trusts_owner()


def test_a_membership_without_its_options_gives_nothing(member: Member) -> None:
    if member.place.database.major < 16:
        pytest.skip("memberships have no options before 16")
    member.run("REVOKE {g} FROM {o}", "REVOKE {g}, {o} FROM {m}")
    member.run("GRANT {m} TO {o} WITH INHERIT FALSE, SET FALSE")
    assert not member.trusts_owner()
    member.run("GRANT {m} TO {o} WITH INHERIT TRUE")
    assert not member.trusts_owner()  # the rights, and not the attributes
    member.run("GRANT {m} TO {o} WITH SET TRUE")
    assert member.trusts_owner()
    member.run("REVOKE {m} FROM {o}", "GRANT {o} TO {m} WITH INHERIT FALSE, SET FALSE")
    assert not member.trusts_owner()
    member.run("GRANT {o} TO {m} WITH INHERIT TRUE, SET TRUE", "GRANT {g} TO {o} WITH SET FALSE")
    assert member.trusts_owner()
    member.run("GRANT {g} TO {m}")
    assert not member.trusts_owner()
    member.run("GRANT {g} TO {o} WITH SET TRUE")
    assert member.trusts_owner()


@pytest.mark.parametrize("mode", ["atomic", "online"])
def test_what_a_member_left_behind_does_not_stand_in_its_way(
    mode: Literal["atomic", "online"], newest: Cluster, tmp_path: Path
) -> None:
    spec = parse_spec(SPEC, file="sorting.toml")
    with joined(newest, tmp_path) as one:
        connect = one.place.connected_as(one.name).session
        with connect() as connection:
            found = read_catalog(connection, spec)
        plan = build_plan(spec, found, Options(mode=mode, lock_timeout_ms=300, old_name_view=True))
        if mode == "atomic":
            apply_atomic(connect, spec, found, plan, run_id=uuid.uuid4(), wait_ms=300)
        else:
            limits = Limits(max_wait_ms=2_000, batch_ms=1)
            apply_online(
                connect, spec, found, plan,
                run_id=uuid.uuid4(), wait_ms=300, limits=limits, journal=Journal(),
            )  # fmt: skip
        assert one.trusts_owner()
        one.place.as_owner("ALTER TABLE app.issues ADD other app.kind")
        assert one.trusts_owner()
        one.run("ALTER TABLE vault.t ADD other app.kind")
        assert not one.trusts_owner()
