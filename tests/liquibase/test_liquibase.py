"""Liquibase runs the changelog, takes it back, and runs it again."""

import os
import subprocess
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from runbook.embedded import wheel_binaries
from tests.conftest import Database
from tests.dumps import difference, dumped
from tests.export.test_hosted import file_for
from tests.migrating import check
from tests.own_server import NEWEST, server_with_sample

INSTALLED = os.environ.get("RUNBOOK_LIQUIBASE", "")
"""Where `make liquibase-check` has installed it; '' in the ordinary suite."""

PASSWORD = "written down for a test"

pytestmark = pytest.mark.skipif(
    not INSTALLED, reason="`make liquibase-check` runs it with the real one, where npm and Java are"
)


def liquibase(database: Database, changelog: Path, *arguments: str) -> str:
    parts = conninfo_to_dict(database.conninfo)
    program = Path(INSTALLED) / "node_modules/liquibase/dist/liquibase/liquibase"
    ended = subprocess.run(
        [
            *("sh", str(program), f"--changelog-file={changelog.name}", "--log-level=severe"),
            f"--url=jdbc:postgresql://127.0.0.1:{parts['port']}/{parts['dbname']}",
            f"--username={parts['user']}",
            *arguments,
        ],
        env=os.environ | {"LIQUIBASE_COMMAND_PASSWORD": PASSWORD},
        cwd=changelog.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_up_back_and_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with server_with_sample(password=PASSWORD) as server:
        database = Database(
            name="template",
            conninfo=server.conninfo("template"),
            major=NEWEST,
            binaries=wheel_binaries(NEWEST),
        )
        changelog = tmp_path / "changelog.sql"
        changelog.write_text(file_for("liquibase", database))
        liquibase(database, changelog, "update-sql")  # makes Liquibase's own tables, nothing else
        before = dumped(database)
        liquibase(database, changelog, "update")
        assert all(result.passed for result in check(database).values())
        assert "is up to date" in liquibase(database, changelog, "status")
        liquibase(database, changelog, "rollback-count", "1")
        left = difference(before, dumped(database))
        assert not [one for one in (*left.gone, *left.new) if "databasechangelog" not in one]
        liquibase(database, changelog, "update")
        assert all(result.passed for result in check(database).values())
