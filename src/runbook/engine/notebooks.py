"""The notebooks, by the step that each one does."""

from pathlib import Path

from runbook.errors import RunbookError

NOTEBOOKS = {
    "review": "01_review.ipynb",
    "migrate": "02_migrate.ipynb",
    "verify": "03_verify.ipynb",
    "rollback": "04_rollback.ipynb",
    "fleet": "05_fleet.ipynb",
    "contract": "06_contract.ipynb",
    "rehearse": "07_rehearse.ipynb",
}


def notebook_path(step: str) -> Path:
    """Return a step's notebook: inside the installed package, or in the source tree beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "notebooks", package.parents[1] / "notebooks"):
        if (folder / NOTEBOOKS[step]).is_file():
            return folder / NOTEBOOKS[step]
    raise RunbookError(f"The notebook {NOTEBOOKS[step]} is missing.", "Install the package again.")
