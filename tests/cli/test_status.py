"""`runbook status`: where a migration is, for a person and for a program, in every state."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_refusals import run
from tests.conftest import Cluster, Database
from tests.engine.running import ended, eventually, held_at, start
from tests.migrating import migrate, migrate_online, stop_online, take_back

KEYS = {
    "state", "exit_code", "migration", "database", "unfinished", "applied", "taken_back",
    "has_view", "unproved", "at_work", "waits_for", "next",
}  # fmt: skip


def status(database: Database) -> tuple[dict[str, Any], str]:
    """Return what is said to a program, and to a person."""
    answered = run("status", "--database-url", database.url, "--json")
    assert answered.returncode == 0, answered.stderr
    (line,) = answered.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    assert content.keys() == KEYS and content["exit_code"] == 0
    assert content["next"] in answered.stderr and content["state"] in answered.stderr
    return content, answered.stderr


def test_before_anything_is_begun(sample: Database) -> None:
    content, said = status(sample)
    assert content["state"] == "not begun" and "`runbook review`" in said
    assert (content["unfinished"], content["applied"], content["at_work"]) == (None, None, None)
    asked = run("status", "--database-url", sample.url)
    assert asked.stdout == said and asked.stderr == ""


def test_a_table_that_is_not_there(empty_newest: Database) -> None:
    content, said = status(empty_newest)
    assert content["state"] == "not there"
    assert f"public.enrichment_logs is not there in database '{empty_newest.name}'" in said


@pytest.mark.parametrize("phase", ["backfill", "index", "cutover"])
def test_a_run_that_was_stopped(phase: str, sample_newest: Database) -> None:
    run_id = stop_online(sample_newest, phase)
    content, said = status(sample_newest)
    assert (content["state"], content["at_work"]) == ("stopped", None)
    unfinished = content["unfinished"]
    assert (unfinished["run_id"], unfinished["phase"]) == (run_id, phase)
    done = 0 if phase == "backfill" else unfinished["blocks"]
    assert (unfinished["blocks_done"], unfinished["rows"]) == (done, 282 if done else 0)
    assert "plan" not in unfinished
    assert f"({'100.0%' if done else '0.0%'})" in said and run_id in said
    assert "`runbook migrate` resumes it, `runbook rollback` takes it back" in said
    take_back(sample_newest)
    assert status(sample_newest)[0]["state"] == "not begun"


def test_half_of_a_backfill_says_how_long_is_left(sample_newest: Database) -> None:
    stop_online(sample_newest, "backfill")
    sample_newest.execute(
        "UPDATE runbook.online_span SET next_block = end_block / 2, worked_ms = 60000"
    )
    content, said = status(sample_newest)
    blocks, done = content["unfinished"]["blocks"], content["unfinished"]["blocks_done"]
    assert content["unfinished"]["left_s"] == pytest.approx(60 * (blocks - done) / done)
    assert f"{done:,} of {blocks:,} blocks" in said
    assert "of backfill with one job, then the index" in said


@pytest.mark.parametrize("way", [migrate, migrate_online])
def test_an_applied_migration(way: Any, sample_newest: Database) -> None:
    way(sample_newest)
    content, said = status(sample_newest)
    assert (content["state"], content["unfinished"]) == ("applied", None)
    assert content["applied"]["run_id"] in said and f"mode {content['applied']['mode']}" in said
    assert "`runbook verify`" in content["next"] and content["has_view"] is False


@pytest.mark.parametrize(
    "phase",
    [
        "backfill",
        "cutover",
        *(pytest.param(p, marks=pytest.mark.soak) for p in ("expand", "index")),
    ],
)
def test_a_run_at_work_says_who_is_in_its_way(
    phase: str, sample_newest: Database, newest: Cluster, tmp_path: Path
) -> None:
    other = newest.sample()
    with held_at(phase, sample_newest) as is_there:
        process = start("runbook", sample_newest, tmp_path, mode="online")
        eventually(is_there)
        answers = [status(sample_newest)]

        def waits() -> bool:
            answers.append(status(sample_newest))
            return bool(answers[-1][0]["waits_for"])

        if phase != "backfill":  # there it works, and waits for nobody
            eventually(waits)
        content, said = answers[-1]
        assert status(other)[0]["state"] == "not begun"
        process.send_signal(signal.SIGTERM)
        ended(process)
    newest.drop(other)
    assert content["state"] == "at work" and "'runbook migrate'" in content["at_work"]
    if phase == "expand":
        assert content["unfinished"] is None and "it has committed nothing" in said
    else:
        assert content["unfinished"]["phase"] == phase
    if phase != "backfill":
        assert {one["application"] for one in content["waits_for"]} == {"nightly report"}
        assert "nightly report" in said and "once they are done" in content["next"]
    if phase == "index":
        assert content["unfinished"]["index"].startswith("waiting")


def test_it_answers_while_the_table_is_locked(sample_newest: Database) -> None:
    stop_online(sample_newest, "cutover")
    with sample_newest.connect() as other, other.transaction():
        other.execute("LOCK TABLE enrichment_logs IN ACCESS EXCLUSIVE MODE")
        assert status(sample_newest)[0]["state"] == "stopped"


def test_a_role_that_may_not_read_the_ledger_is_told_so(sample_newest: Database) -> None:
    stop_online(sample_newest)
    sample_newest.execute("DROP ROLE IF EXISTS onlooker", "CREATE ROLE onlooker LOGIN")
    as_onlooker = sample_newest.url.replace("postgres@", "onlooker@")
    answered = run("status", "--database-url", as_onlooker, "--json")
    assert answered.returncode == 3
    message = "Role onlooker may not read the ledger in schema runbook."
    assert json.loads(answered.stdout)["message"] == message and message in answered.stderr
