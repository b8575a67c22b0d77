"""`runbook export`: the plan as files for the tools that an application migrates with."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook.cli.options import database_reference, target_options
from runbook.cli.terminal import say, say_json

if TYPE_CHECKING:
    from runbook.cli.show_plan import Planned


@click.group()
def export() -> None:
    """Write the plan for Alembic or Prisma. Changes nothing in the database."""


@export.command()
@target_options
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the revisions (…/versions).",
)
@click.option(
    "--down-revision",
    metavar="R",
    help="The revision before. Default: the head of those in the folder.",
)
def alembic(out: Path, down_revision: str | None, **options: Any) -> None:
    """Write a revision that applies the plan, proof and ledger included, and takes it back."""
    from runbook.export import export_alembic

    found = _planned(options)
    path = export_alembic(found.spec, found.plan, found.table, out, down_revision=down_revision)
    _tell(
        options,
        {"revision": path.name.partition("_")[0], "plan": found.plan.sha256, "files": [str(path)]},
    )


@export.command()
@target_options
@click.option(
    "--prisma-dir",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="The folder that holds schema.prisma and migrations.",
)
def prisma(prisma_dir: Path, **options: Any) -> None:
    """Write the migration's SQL into a Prisma folder, and edit its schema.

    `runbook migrate --prisma-dir DIR` then records it as run.
    """
    from runbook.export import export_prisma

    found = _planned(options)
    exported = export_prisma(found.spec, found.catalog, found.plan, prisma_dir)
    _tell(
        options,
        {
            "migration": exported.migration,
            "plan": found.plan.sha256,
            "files": [str(file) for file in exported.files],
        },
    )


def _planned(options: Mapping[str, Any]) -> "Planned":
    """Return the atomic plan of a database, whatever the lock would cost: the files are run where
    there are few rows, or where somebody chose to."""
    from runbook.cli.show_plan import planned
    from runbook.plan import Options

    return planned(
        database_reference(options["database_url"]),
        options["spec"],
        options["ledger_schema"],
        Options(mode="atomic"),
    )


def _tell(options: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Say what was written."""
    if options["as_json"]:
        say_json(written)
        return
    for file in written["files"]:
        say(file)
