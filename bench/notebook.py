"""The command `python -m bench.notebook`: `runbook migrate` against a bare notebook.

The sample's 4,052 rows, a fresh copy of them each time, against papermill on a notebook that does
nothing but import pandas, matplotlib and SQLAlchemy: what any notebook of this kind costs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import psycopg

from bench.database import Databases, temporary_server
from runbook.sample import SAMPLE

MOST_RATIO = 2.5

_PROGRAMS = Path(sys.executable).parent
_BARE = "import matplotlib.pyplot\nimport pandas\nimport sqlalchemy"


def main() -> int:
    """Run both in turn, print medians and ratio; return 1 if the ratio is above the bound."""
    parser = argparse.ArgumentParser(prog="python -m bench.notebook", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    arguments = parser.parse_args()
    bare_s: list[float] = []
    migrate_s: list[float] = []
    with (
        temporary_server(arguments.pg) as (databases, _),
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder,
    ):
        databases.make_template(sum(SAMPLE.values()), "real")
        _write_notebook(Path(folder))
        # The first run of each also compiles and caches: it is not counted.
        for n in range(arguments.repetitions + 1):
            bare, migrate = _bare(Path(folder)), _migrate(databases, f"sample_{n}", Path(folder))
            if n:
                bare_s.append(bare)
                migrate_s.append(migrate)
                print(f"{n}: bare {bare:.2f} s, migrate {migrate:.2f} s", flush=True)
    ratio = statistics.median(migrate_s) / statistics.median(bare_s)
    print(f"bare papermill, median   {statistics.median(bare_s):.2f} s")
    print(f"runbook migrate, median  {statistics.median(migrate_s):.2f} s")
    kept = ratio <= MOST_RATIO
    print(f"bound: ratio {ratio:.2f} ≤ {MOST_RATIO}: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


def _write_notebook(folder: Path) -> None:
    cell = nbformat.v4.new_code_cell(_BARE)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "bare.ipynb")


def _bare(folder: Path) -> float:
    """Run the bare notebook; return how many seconds it took."""
    return _timed(
        [_PROGRAMS / "papermill", "-k", "python3", "--no-progress-bar", "bare.ipynb", "out.ipynb"],
        folder,
    )


def _migrate(databases: Databases, name: str, folder: Path) -> float:
    """Run `runbook migrate` on a fresh copy of the sample; return how many seconds it took."""
    databases.copy(name)
    given = psycopg.conninfo.conninfo_to_dict(databases.conninfo(name))
    url = f"postgresql://{given['user']}@/{name}?host={given['host']}&port={given['port']}"
    command: list[str | Path] = [
        _PROGRAMS / "runbook",
        "migrate",
        "--database-url",
        url,
        "--reports",
        "reports",
    ]
    seconds = _timed(command, folder)
    assert sum(databases.categories(name).values()) == sum(SAMPLE.values())
    return seconds


def _timed(command: Sequence[str | Path], folder: Path) -> float:
    """Run a program in a folder; return how many seconds it took. Shows output if it failed."""
    started = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if ended.returncode:
        sys.exit(f"{Path(command[0]).name} failed:\n{ended.stdout}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
