"""`runbook fleet`: waves over many databases, the rule that stops, and what survives a kill."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.engine.running import eventually
from tests.fleet.fleets import AT_GATE, GATE, Tenants, kernel_of, kill, tenants, workers_of
from tests.notebook.papermilling import bundles, environment, manifest

QUICK = "[rollout]\ngrowth = 3\nretry_after_s = 0.5\n"
ROWS = 4052


@pytest.fixture
def five(newest: Cluster, tmp_path: Path) -> Iterator[Tenants]:
    yield from tenants(newest, tmp_path, 5)


def test_every_target_is_migrated_and_proved_and_one_report_binds_their_bundles(
    five: Tenants,
) -> None:
    five.write(QUICK)
    code, said = five.run("--json")
    assert code == 0, said
    assert five.applied() == [1] * 5
    content = five.fleet_manifest()
    assert (content["outcome"], content["exit_code"]) == ("succeeded", 0)
    assert content["counts"]["before"] == {"total": 5 * ROWS}
    assert content["counts"]["after"]["total"] == 5 * ROWS
    assert content["counts"]["after"]["categories"] == content["counts"]["predicted"]
    assert content["fleet"]["waves"] == [1, 3, 1]
    assert all(check["passed"] for check in content["checks"]) and content["checks"]
    targets = content["fleet"]["targets"]
    assert [one["target"] for one in targets] == [one.name for one in five.databases]
    for one in targets:
        sealed = (five.folder / "reports" / one["bundle"] / "manifest.json").read_bytes()
        own = manifest(five.folder / "reports" / one["bundle"])
        assert hashlib.sha256(sealed).hexdigest() == one["manifest_sha256"]
        assert own["proof"]["passed"] and own["database"]["name"] == one["target"]
        assert own["plan"]["approved"] == own["plan"]["sha256"] == content["plan"]["sha256"]
    verified = subprocess.run(
        [sys.executable, "-m", "runbook", "archive", "verify"],
        cwd=five.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    page = (five.folder / "reports" / "index.html").read_text("utf-8")
    assert all(one["bundle"] in page for one in targets)

    code, said = five.run()
    assert code == 0, said
    assert five.fleet_manifest()["outcome"] == "already-applied"
    assert five.applied() == [1] * 5


def test_a_canary_that_fails_a_check_is_the_last_target(five: Tenants) -> None:
    # The application knows no label FAILED: the change itself is as reviewed.
    (five.folder / "own_models.py").write_text(
        "from enum import StrEnum\n"
        "from runbook.models.llamalog import *\n"
        "from runbook.models.llamalog import LlamaLog\n"
        "LlamaLogCategory = StrEnum('LlamaLogCategory', 'CREATED ENRICHED CORRECTED CACHED')\n",
        "utf-8",
    )
    shipped = resources.files("runbook").joinpath("specs", "llamalog.toml").read_text("utf-8")
    (five.folder / "own.toml").write_text(
        shipped.replace("runbook.models.llamalog", "own_models"), "utf-8"
    )
    five.write(QUICK + "[parameters]\nallow_models = true\n", spec="own.toml")
    code, said = five.run()
    assert code == 4, said
    assert five.applied() == [1, 0, 0, 0, 0]
    content = five.fleet_manifest()
    assert (content["outcome"], content["exit_code"]) == ("check-failed", 4)
    assert five.databases[0].name in content["message"] and "SCHEMA-01" in content["message"]
    left = content["fleet"]["targets"][1:]
    assert [one["outcome"] for one in left] == ["left"] * 4
    assert all("SCHEMA-01" in one["message"] for one in left)
    report = next(path for path in bundles(five.folder) if "-fleet-" in path.name)
    assert "SCHEMA-01" in (report / "report.html").read_text("utf-8")


def test_a_canary_that_is_not_like_the_others_is_refused(five: Tenants) -> None:
    five.write(QUICK)
    five.databases[0].execute("CREATE INDEX own_idx ON enrichment_logs (status)")
    code, said = five.run()
    assert code == 3, said
    assert five.applied() == [0] * 5
    assert "own_idx" in five.fleet_manifest()["message"]


def test_a_target_that_differs_is_set_apart_and_can_be_approved(five: Tenants) -> None:
    five.write(QUICK)
    five.databases[3].execute("CREATE INDEX own_idx ON enrichment_logs (status)")
    code, said = five.run()
    assert code == 6, said
    assert five.applied() == [1, 1, 1, 0, 1]
    apart = five.fleet_manifest()["fleet"]["targets"][3]
    assert apart["outcome"] == "left" and "own_idx" in apart["message"]
    _, _, plan = apart["remedy"].rpartition(" ")
    code, said = five.run("--resume")
    assert code == 6, said
    assert five.applied() == [1, 1, 1, 0, 1]
    code, said = five.run("--resume", "--approved-plan", plan)
    # The index is none of the models': the run itself is told so by its last check.
    assert five.applied() == [1, 1, 1, 1, 1], said
    assert code == 4 and "model-drift" in said


def test_more_failures_than_allowed_stop_it(five: Tenants) -> None:
    five.write("[rollout]\ncanary = 2\ngrowth = 1\nmax_failures = 1\n")
    broken = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF current_database() LIKE '%\\_2' OR current_database() LIKE '%\\_3'"
        " THEN RAISE 'no'; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON enrichment_logs"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    for one in five.databases:
        one.execute(*broken)
    code, said = five.run("--concurrency", "1", "--workers", "1")
    assert code == 6, said
    assert five.applied() == [1, 1, 0, 0, 0]
    outcomes = [one["outcome"] for one in five.fleet_manifest()["fleet"]["targets"]]
    assert outcomes == ["succeeded", "succeeded", "rolled-back", "rolled-back", "left"]


def test_a_target_that_is_locked_is_tried_again(five: Tenants) -> None:
    five.write(f"{QUICK}\n[parameters]\nmax_wait_ms = 300\nlock_timeout_ms = 50\n")
    first = five.databases[0]
    with first.connect() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM enrichment_logs LIMIT 1")
        process = five.start()
        refused = eventually(
            lambda: [one for one in bundles(five.folder) if one.name.endswith("migrate-refused")]
        )
        reader.execute("ROLLBACK")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert manifest(refused[0])["error"] == "TableLocked"
    assert five.applied() == [1] * 5
    assert five.fleet_manifest()["fleet"]["targets"][0]["attempts"] > 1


@pytest.fixture
def two(newest: Cluster, tmp_path: Path) -> Iterator[Tenants]:
    yield from tenants(newest, tmp_path, 2)


def test_what_was_taken_back_since_is_migrated_again(two: Tenants) -> None:
    two.write(QUICK)
    code, said = two.run()
    assert code == 0, said
    taken_back = two.databases[1]
    command = [sys.executable, "-m", "runbook", "rollback", "--database-url", taken_back.url]
    subprocess.run(command, cwd=two.folder, env=environment(), capture_output=True, check=True)
    assert taken_back.value("SELECT to_regclass('llama_logs') IS NULL")
    code, said = two.run("--resume")
    assert code == 0, said
    assert taken_back.value("SELECT count(*) FROM llama_logs") == ROWS
    targets = two.fleet_manifest()["fleet"]["targets"]
    assert [one["outcome"] for one in targets] == ["succeeded"] * 2
    migrated = [one for one in bundles(two.folder) if one.name.split("-")[2] == "migrate"]
    assert targets[1]["bundle"] == migrated[-1].name


def test_two_fleets_on_the_same_targets_exclude_each_other(two: Tenants) -> None:
    two.write("[rollout]\nretry_after_s = 0.5\nretries = 20\n")
    running = [two.start("--workers", "1") for _ in range(2)]
    said = [one.communicate(timeout=240)[0] for one in running]
    assert {one.returncode for one in running} <= {0, 3, 6}, said
    assert max(two.applied()) == 1
    code, told = two.run()
    assert code == 0, told
    assert two.applied() == [1, 1]


@pytest.fixture
def gated(five: Tenants) -> Tenants:
    """Five databases, all but the canary held at the migration's UPDATE."""
    for one in five.databases:
        one.execute(*GATE)
    five.databases[0].execute("DELETE FROM gate")
    five.write("[rollout]\ngrowth = 4\nretry_after_s = 0.5\nretries = 20\n")
    return five


def open_gates(fleet: Tenants) -> None:
    for one in fleet.databases:
        one.execute("DELETE FROM gate")


def at_gate(fleet: Tenants) -> int:
    return sum(one.value(AT_GATE) for one in fleet.databases)


def test_a_worker_that_is_killed_is_replaced_and_its_targets_run_again(gated: Tenants) -> None:
    process = gated.start("--concurrency", "4", "--workers", "2")
    eventually(lambda: at_gate(gated) == 4)
    kill(workers_of(process)[0])
    eventually(lambda: at_gate(gated) < 4)
    open_gates(gated)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert gated.applied() == [1] * 5
    assert all(one["exit_code"] == 0 for one in gated.fleet_manifest()["fleet"]["targets"])


@pytest.mark.parametrize("whom", ["kernel", pytest.param("everything", marks=pytest.mark.soak)])
def test_a_fleet_that_is_killed_is_resumed(gated: Tenants, whom: str) -> None:
    process = gated.start("--concurrency", "2", "--workers", "2")
    eventually(lambda: at_gate(gated) == 2)
    if whom == "kernel":
        kill(kernel_of(process))
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 6, said
        assert "--resume" in gated.fleet_manifest()["remedy"]
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert not [one for one in bundles(gated.folder) if "-fleet-" in one.name]
    assert gated.applied() == [1, 0, 0, 0, 0]
    open_gates(gated)
    before = len(bundles(gated.folder))
    code, said = gated.run("--resume")
    assert code == 0, said
    assert gated.applied() == [1] * 5
    content = gated.fleet_manifest()
    assert [one["exit_code"] for one in content["fleet"]["targets"]] == [0] * 5
    # The canary was done; it is reported by the bundle that it had.
    assert len(bundles(gated.folder)) == before + 4 + 1


def test_what_an_interrupt_does_not_wait_for_is_not_said_to_be_untouched(gated: Tenants) -> None:
    process = gated.start("--concurrency", "2", "--workers", "1")
    eventually(lambda: at_gate(gated) == 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 6, said
    assert gated.applied() == [1, 0, 0, 0, 0]
    told = [one["message"] for one in gated.fleet_manifest()["fleet"]["targets"][1:]]
    assert sum("under way" in one for one in told) == 2
    assert sum("Not begun" in one for one in told) == 2


def test_an_interrupt_waits_for_what_is_under_way_and_leaves_the_rest(gated: Tenants) -> None:
    process = gated.start("--concurrency", "2", "--workers", "1")
    eventually(lambda: at_gate(gated) == 2)
    process.send_signal(signal.SIGINT)
    open_gates(gated)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 6, said
    assert sum(gated.applied()) <= 3 and "Traceback" not in said
    assert gated.fleet_manifest()["outcome"] == "stopped"
    code, said = gated.run("--resume")
    assert code == 0, said
    assert gated.applied() == [1] * 5


@pytest.mark.soak
def test_no_secret_of_a_target_is_written(five: Tenants) -> None:
    five.write(QUICK)
    url = five.databases[0].url.replace("://postgres@", "://postgres:kept-from-all@")
    assert "kept-from-all" in url
    ended = subprocess.run(
        [sys.executable, "-m", "runbook", "fleet", "FLEET.toml"],
        cwd=five.folder,
        env=environment(TENANTS_URL=url),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = [path for path in five.folder.rglob("*") if path.is_file()]
    assert [path for path in written if b"kept-from-all" in path.read_bytes()] == []
    assert "kept-from-all" not in ended.stdout + ended.stderr
