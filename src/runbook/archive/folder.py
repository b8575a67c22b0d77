"""The folder of the archive: whether bundles can be written there."""

import tempfile
from pathlib import Path

from runbook.errors import UsageError


def prepare(reports: str) -> Path:
    """Make sure that bundles can be written into a folder, before anything else is done.

    Raises `UsageError` if they cannot.
    """
    if "://" in reports:
        raise UsageError(
            f"Reports are written into folders only, and {reports.partition('://')[0]}:// is none.",
            "Give a folder with --reports.",
        )
    folder = Path(reports).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"Reports cannot be written into {folder}: {error.strerror}.",
            "Nothing was changed. Give a folder that can be written with --reports.",
        ) from None
    return folder
