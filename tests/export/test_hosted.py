"""The files for Flyway and Liquibase: plain SQL that runs in one transaction, and back."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.cases import CASES
from tests.cli.test_refusals import run
from tests.conftest import Cluster, Database
from tests.dumps import difference, dumped
from tests.migrating import check
from tests.state import database_state


def file_for(tool: str, database: Database, *more: str) -> str:
    ended = run("plan", "--database-url", database.url, "--format", tool, *more)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def run_at_once(database: Database, text: str) -> None:
    """Run a file as one transaction, in the session of a tool that has settings of its own."""
    with database.connect() as connection:
        connection.execute("SET search_path = elsewhere, public")
        with connection.transaction():
            connection.execute(text.encode())
            connection.execute("CREATE TABLE pg_temp.seen AS SELECT current_setting('search_path')")
        seen = connection.execute("TABLE pg_temp.seen").fetchone()
    assert seen == ("elsewhere, public",), "the tool looks for its own table by it"


def rollback_of(changelog: str) -> str:
    """Return the rollback of a changelog's only changeset, as Liquibase reads it."""
    return "\n".join(re.findall(r"^--rollback (.*)$", changelog, re.MULTILINE))


def test_flyways_file_is_plain_sql_for_one_transaction(sample: Database) -> None:
    text = file_for("flyway", sample)
    assert not re.search(r"^\s*(\\|BEGIN;|COMMIT;|BEGIN ISOLATION)", text, re.MULTILINE)
    run_at_once(sample, text)
    assert all(result.passed for result in check(sample).values())
    assert sample.value("SELECT client FROM runbook.ledger") == "flyway"


def test_a_changelog_has_its_way_back(sample: Database) -> None:
    before = dumped(sample)
    text = file_for("liquibase", sample)
    assert text.startswith("--liquibase formatted sql\n")
    assert len(re.findall(r"^--changeset ", text, re.MULTILINE)) == 1
    run_at_once(sample, text)
    assert all(result.passed for result in check(sample).values())
    run_at_once(sample, rollback_of(text))
    assert not difference(before, dumped(sample))
    assert sample.value("SELECT client FROM runbook.rollback") == "liquibase"


def test_a_second_run_is_refused_and_changes_nothing(sample_newest: Database) -> None:
    text = file_for("flyway", sample_newest)
    run_at_once(sample_newest, text)
    with sample_newest.connect() as connection:
        before = database_state(connection)
        with pytest.raises(Exception, match="does not exist"):
            run_at_once(sample_newest, text)
        assert database_state(connection) == before


def test_what_one_transaction_cannot_hold_is_refused_or_split(newest: Cluster) -> None:
    case = CASES["extended type"]
    database = case.make(newest)
    Path("spec.toml").write_text(str(case.text))
    try:
        ended = run(
            *("plan", "--database-url", database.url, "--spec", "spec.toml"),
            *("--format", "flyway"),
        )
        assert ended.returncode == 2
        assert "PostgreSQL can use it only in a later transaction (55P04)" in ended.stderr
        text = file_for("liquibase", database, "--spec", "spec.toml")
        changesets = re.split(r"^--changeset .*$", text, flags=re.MULTILINE)[1:]
        assert len(changesets) == 2
        for one in changesets:
            run_at_once(database, one)
        assert all(result.passed for result in check(database, case.spec).values())
    finally:
        newest.drop(database)


def test_the_online_mode_is_refused(sample_newest: Database) -> None:
    ended = run(
        *("plan", "--database-url", sample_newest.url, "--format", "flyway", "--mode", "online"),
    )
    assert ended.returncode == 2
    assert "Flyway runs a file in one transaction, and the online mode takes many." in ended.stderr


def test_a_dollar_sign_before_a_brace_is_no_placeholder(sample_newest: Database) -> None:
    source = Path(run.__code__.co_filename).parents[2] / "src/runbook/specs/llamalog.toml"
    text = source.read_text("utf-8").replace('equals = "admin_correction"', 'equals = "${x}"')
    Path("spec.toml").write_text(text)
    for tool in ("flyway", "liquibase"):
        text = file_for(tool, sample_newest, "--spec", "spec.toml")
        assert "${" not in text and r"E'\U00000024{x}'" in text


def test_psql_takes_the_same_statements(sample_newest: Database) -> None:
    """The hosted files are no second plan: what psql runs is in them, line by line."""
    psql = file_for("sql", sample_newest).partition("-- The way back")[0]
    flyway = file_for("flyway", sample_newest)
    statements = [one for one in psql.split("\n\n") if re.match(r"-- .* \[atomic, lock: .*\]", one)]
    assert len(statements) > 30
    assert [one for one in statements if one.strip() not in flyway] == []
    script = Path("plan.sql")
    script.write_text(file_for("sql", sample_newest))
    psql_binary = str(sample_newest.binaries / "psql")
    command = [psql_binary, "-X", "-q", "-f", str(script), sample_newest.conninfo]
    subprocess.run(command, check=True, capture_output=True)
    assert all(result.passed for result in check(sample_newest).values())
