"""What is told while a run is at work: one changing line on a terminal, plain lines elsewhere."""

import os
import pty
import sys
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.engine.test_endings import execute
from tests.notebook.papermilling import environment, notebook, read, with_cell

SECRET = "kaNaRy7Vq"


def on_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a terminal of 120 columns; return all that it wrote there."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(folder)
        os.execve(command[0], command, environment(TERM="xterm"))
    pty_size(terminal)
    told = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        if not data:
            break
        told += data
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, told.decode()
    return told.decode()


def pty_size(terminal: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))


def test_on_a_terminal_one_line_says_how_far_it_is(sample_newest: Database, tmp_path: Path) -> None:
    runbook = str(Path(sys.executable).with_name("runbook"))
    url = sample_newest.url
    told = on_terminal([runbook, "migrate", "--database-url", url, "--mode", "online"], tmp_path)
    before, _, after = told.partition("migrate: succeeded")
    for phase in ("expand", "backfill", "index", "cutover"):
        assert f"{phase}: begins" in before
    assert " blocks, " in before and "rows updated and proved" in before
    lines = [line.rstrip() for line in before.split("\r") if line.strip("\x1b[A\n ")]
    assert lines and max(map(len, lines)) <= 120
    assert "\n" not in before.strip() and ": begins" not in after


def test_elsewhere_it_is_told_in_plain_lines(
    sample_newest: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("runbook.engine.manager.Manager.TELL_S", 0.0)
    online = with_cell(
        notebook("migrate"),
        "apply",
        "import os\nrun.tell('the password is ' + os.environ['PGPASSWORD'])\n"
        "run.parameters = run.parameters.model_copy(update={'mode': 'online'})\nrun.make_plan()",
        tmp_path / "online.ipynb",
    )
    monkeypatch.setenv("PGPASSWORD", SECRET)
    error, _ = execute(online, sample_newest)
    assert error is None
    told = capsys.readouterr().err.splitlines()
    assert "backfill: begins" in told and any(" blocks, " in line for line in told)
    assert told.index("expand: begins") < told.index("index: begins") < told.index("cutover: done")
    (masked,) = (line for line in told if line.startswith("the password is "))
    assert SECRET not in masked
    outputs = [
        out for cell in read(tmp_path / "out.ipynb").cells for out in cell.get("outputs", [])
    ]
    texts = [out.get("data", {}).get("text/plain") for out in outputs]
    assert texts.count("cutover: done") == 1 and "cutover: begins" not in texts


def test_a_short_run_says_nothing_in_between(
    sample_newest: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("runbook.engine.manager.Manager.TELL_S", 3600.0)
    assert execute(notebook("migrate"), sample_newest)[0] is None
    assert capsys.readouterr().err == ""
