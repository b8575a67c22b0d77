"""Connections that fail: who did not answer and why, without the password."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from runbook.cli import main
from runbook.embedded import Server
from tests.cli.test_refusals import run

PASSWORD = "correct horse %41 battery"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server on TCP that wants a password."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="runbook-tests-") as folder:
        Path(folder).chmod(0o755)
        server = Server(
            Path(folder) / "tcp", password=PASSWORD, settings={"fsync": "off"}
        ).acquire()
        yield server
        server.destroy()


def test_the_right_password_is_let_in_and_never_written(server: Server, tmp_path: Path) -> None:
    ended = run("migrate", "--database-url", server.tcp_url(), "--json")
    assert ended.returncode == 3 and "enrichment_logs is not there" in ended.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "report.ipynb" for path in written)
    for text in [ended.stdout, ended.stderr, *(path.read_text() for path in written)]:
        assert PASSWORD not in text and "horse" not in text


@pytest.mark.parametrize(
    ("part", "replacement", "message"),
    [
        ("correct", "wrong", 'password authentication failed for user "postgres"'),
        ("127.0.0.1", "nowhere.invalid", "nowhere.invalid"),
        ("/postgres", "/absent", 'database "absent" does not exist'),
        (":PORT", ":1", "Connection refused"),
    ],
    ids=["password", "host", "database", "port"],
)
def test_a_wrong_part_of_the_url_is_refused(
    server: Server, part: str, replacement: str, message: str, tmp_path: Path
) -> None:
    url = server.tcp_url()
    port = url.rpartition(":")[2].partition("/")[0]
    head, found, tail = url.rpartition(part.replace("PORT", port))
    assert found
    ended = run("migrate", "--database-url", head + replacement + tail, "--json")
    assert ended.returncode == 3
    said = json.loads(ended.stdout)
    assert said["outcome"] == "refused" and message in said["message"]
    assert said["message"].startswith("Cannot connect to postgresql://postgres@")
    assert "horse" not in ended.stdout + ended.stderr
    assert not list((tmp_path / "reports").glob("2*"))


def test_a_password_on_the_command_line_is_warned_of(server: Server) -> None:
    url = server.tcp_url()
    plain = f"postgresql://postgres@{url.rpartition('@')[2]}"
    for given, environment in ((url, {}), (plain, {"PGPASSWORD": PASSWORD}),
                               ("env:URL", {"URL": url})):  # fmt: skip
        ended = run("plan", "--database-url", given, env=os.environ | environment)
        assert ended.returncode == 3 and "enrichment_logs is not there" in ended.stderr
        assert ("process list" in ended.stderr) == (given == url)
        assert ended.stderr.count("env:NAME") == (given == url)
        assert "horse" not in ended.stdout + ended.stderr


def test_an_unexpected_error_is_one_sentence_without_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("cannot parse postgresql://u:corre%63t-horse@h/d, correct-horse")

    url = "postgresql://u:corre%63t-horse@h/d"
    monkeypatch.setattr("runbook.cli.commands.run_step", fail)
    for more in ([], ["--debug"]):
        monkeypatch.setattr("sys.argv", ["runbook", "review", "--database-url", url, *more])
        ended = CliRunner().invoke(main, ["review", "--database-url", url, *more])
        assert ended.exit_code == 1 and "ValueError: cannot parse" in ended.output
        assert ("Traceback" in ended.output) == bool(more)
        assert "horse" not in ended.output
