"""The command line: thin commands over the package."""

from runbook.cli.commands import main

__all__ = ["main"]
