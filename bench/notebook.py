"""The command `python -m bench.notebook`: what the runbook costs beside its database work.

`runbook migrate` on the sample's 4,052 rows, a fresh copy of them each time, against papermill on a
notebook that does nothing but import pandas, matplotlib and SQLAlchemy: what any notebook of this
kind costs. And the processor time of the commands that somebody types while thinking.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psycopg

from bench.database import Databases, temporary_server
from runbook.sample import SAMPLE

MOST_RATIO = 1.8
MOST_CPU_S = 0.5
"""How much processor time `runbook plan` and `runbook --help` may take."""

_PROGRAMS = Path(sys.executable).parent
_BARE = "import matplotlib.pyplot\nimport pandas\nimport sqlalchemy"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a program took."""

    s: float
    cpu_s: float
    """Processor time, that of its children that it waited for included."""


def main() -> int:
    """Run both in turn, print medians and ratio; return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.notebook", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--pg", type=int, choices=(15, 16, 18), help="PostgreSQL's major version")
    arguments = parser.parse_args()
    bare: list[Spent] = []
    migrate: list[Spent] = []
    helped: list[Spent] = []
    planned: list[Spent] = []
    with (
        temporary_server(arguments.pg) as (databases, _),
        tempfile.TemporaryDirectory(prefix="runbook-bench-") as name,
    ):
        folder = Path(name)
        databases.make_template(sum(SAMPLE.values()), "real")
        databases.copy("plan")
        planning = ["plan", "--database-url", _url(databases, "plan")]
        _write_notebook(folder)
        # The first run of each also compiles and caches: it is not counted.
        for n in range(arguments.repetitions + 1):
            bare.append(_bare(folder))
            migrate.append(_migrate(databases, f"sample_{n}", folder))
            helped.append(_runbook(["--help"], folder))
            planned.append(_runbook(planning, folder))
            if n:
                print(f"{n}: bare {bare[-1].s:.2f} s, migrate {migrate[-1].s:.2f} s", flush=True)
    ratio = _median(migrate, "s") / _median(bare, "s")
    print(f"bare papermill, median   {_median(bare, 's'):.2f} s")
    print(f"runbook migrate, median  {_median(migrate, 's'):.2f} s")
    kept = [_told("runbook migrate ÷ bare papermill", ratio, MOST_RATIO)]
    for name, spent in (("runbook plan", planned), ("runbook --help", helped)):
        kept.append(_told(f"{name}: processor time in s", _median(spent, "cpu_s"), MOST_CPU_S))
    return 0 if all(kept) else 1


def _median(spent: Sequence[Spent], of: str) -> float:
    """Return a median without the first run."""
    return float(statistics.median(getattr(one, of) for one in spent[1:]))


def _told(what: str, found: float, most: float) -> bool:
    """Print a bound; return whether it is kept."""
    kept = found <= most
    print(f"bound: {what} {found:.2f} ≤ {most}: {'kept' if kept else 'MISSED'}")
    return kept


def _write_notebook(folder: Path) -> None:
    cell = nbformat.v4.new_code_cell(_BARE)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "bare.ipynb")


def _bare(folder: Path) -> Spent:
    """Run the bare notebook."""
    return _timed(
        [_PROGRAMS / "papermill", "-k", "python3", "--no-progress-bar", "bare.ipynb", "out.ipynb"],
        folder,
    )


def _migrate(databases: Databases, name: str, folder: Path) -> Spent:
    """Run `runbook migrate` on a fresh copy of the sample."""
    databases.copy(name)
    url = _url(databases, name)
    spent = _runbook(["migrate", "--database-url", url, "--reports", "reports"], folder)
    assert sum(databases.categories(name).values()) == sum(SAMPLE.values())
    return spent


def _url(databases: Databases, name: str) -> str:
    given = psycopg.conninfo.conninfo_to_dict(databases.conninfo(name))
    return f"postgresql://{given['user']}@/{name}?host={given['host']}&port={given['port']}"


def _runbook(arguments: Sequence[str], folder: Path) -> Spent:
    return _timed([_PROGRAMS / "runbook", *arguments], folder)


def _timed(command: Sequence[str | Path], folder: Path) -> Spent:
    """Run a program in a folder; return what it took. Shows its output if it failed."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        sys.exit(f"{Path(command[0]).name} failed:\n{ended.stdout}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(s=seconds, cpu_s=cpu_s)


if __name__ == "__main__":
    sys.exit(main())
