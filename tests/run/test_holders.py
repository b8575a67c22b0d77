"""Who holds the locks that a run waits for, as far as the role can see."""

from typing import Any

import psycopg
import pytest

from runbook.run.holders import at_work, holders, said
from tests.cases import PARTITIONED
from tests.conftest import Database


def oid_of(database: Database, name: str) -> int:
    return int(database.value(f"SELECT '{name}'::regclass::oid::bigint"))


def lock(connection: psycopg.Connection[Any], statement: str) -> int:
    connection.execute("BEGIN")
    connection.execute(statement.encode())
    return connection.info.backend_pid


def test_a_role_that_sees_no_ages_is_told_the_pid_nevertheless(sample: Database) -> None:
    role = f"blind_{sample.name}"
    sample.execute(f"CREATE ROLE {role} LOGIN")
    oid = oid_of(sample, "enrichment_logs")
    with (
        sample.connect(application_name="nightly report") as reader,
        psycopg.connect(sample.conninfo, user=role, autocommit=True) as blind,
    ):
        pid = lock(reader, "SELECT FROM enrichment_logs LIMIT 1")
        (found,) = holders(blind, oid, for_ms=100)
        assert (found.pid, found.age_s, found.state) == (pid, None, None)
        said_of_it = f"pid {pid} (postgres, 'nightly report') holds AccessShareLock: "
        assert said((found,)).startswith(said_of_it)
        with sample.connect() as seeing:
            assert holders(seeing, oid, for_ms=3_600_000) == ()
    sample.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ACCESS EXCLUSIVE"])
def test_who_holds_a_partition_is_found_by_the_table(mode: str, database: Database) -> None:
    """Even one that nobody else may so much as look at, and without waiting for it."""
    database.execute(*PARTITIONED)
    oid = oid_of(database, "tickets")
    with database.connect() as holder, database.connect() as connection:
        connection.execute("SET statement_timeout = '2s'")
        pid = lock(holder, f"LOCK TABLE tickets_1 IN {mode} MODE")
        (found,) = holders(connection, oid)
        assert (found.pid, found.mode) == (pid, f"{mode.title().replace(' ', '')}Lock")


def test_a_run_at_work_is_told_who_holds_a_partition(empty_newest: Database) -> None:
    empty_newest.execute(*PARTITIONED)
    with (
        empty_newest.connect(application_name="runbook migrate") as run,
        empty_newest.connect(application_name="nightly report") as holder,
        empty_newest.connect() as connection,
    ):
        lock(run, "SELECT pg_advisory_xact_lock(hashtextextended('runbook/public.tickets', 0))")
        pid = lock(holder, "LOCK TABLE tickets_1 IN ACCESS SHARE MODE")
        holder.execute("SELECT pg_sleep(1.1)")
        found = at_work(connection, "public", "tickets", locking=oid_of(empty_newest, "tickets"))
        assert found is not None and [one.pid for one in found.blockers] == [pid]
