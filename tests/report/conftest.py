"""Bundles of real runs over hostile data."""

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.cli.test_refusals import run
from tests.conftest import MAJORS, Cluster, cluster_of

HOSTILE = "<script>alert(1)</script>"
OTHERS = "<img src=https://evil.example/x onerror=alert(2)>"


@pytest.fixture(scope="session")
def bundles(
    clusters: dict[int, Cluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """The bundles of a review, a refused and a successful migration, of a spec whose title, and a
    database two of whose values, are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    shipped = resources.files("runbook").joinpath("specs/llamalog.toml").read_text("utf-8")
    (folder / "hostile.toml").write_text(
        re.sub(r"^title = .*$", f'title = "{HOSTILE}"', shipped, flags=re.M), "utf-8"
    )
    cluster = cluster_of(clusters, MAJORS[-1])
    database = cluster.sample()
    database.execute(
        *(
            f"UPDATE enrichment_logs SET operation = '{value}' WHERE id ="
            " (SELECT id FROM enrichment_logs WHERE operation = 'manual_correction' LIMIT 1)"
            for value in (HOSTILE, OTHERS)
        )
    )
    given = ("--database-url", database.url, "--spec", "hostile.toml", "--json")
    made = {}
    for name, step, exit_code, more in (
        ("review", "review", 0, ()),
        ("refused", "migrate", 3, ("--approved-plan", "0" * 64)),
        ("migrate", "migrate", 0, ()),
    ):
        ended = run(step, *given, *more, cwd=folder)
        assert ended.returncode == exit_code, ended.stderr
        made[name] = Path(json.loads(ended.stdout)["bundle"])
    yield made
    cluster.drop(database)


@pytest.fixture(scope="session")
def bundle(bundles: dict[str, Path]) -> Path:
    """The bundle of the migration that succeeded."""
    return bundles["migrate"]
