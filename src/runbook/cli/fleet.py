"""`runbook fleet`: one migration of many databases."""

from typing import Any

import click

from runbook.cli.execute import run_step
from runbook.cli.options import output_options, report_options


@click.command()
@click.argument("fleet", default="FLEET.toml", metavar="[FLEET]")
@report_options
@click.option(
    "--approved-plan",
    default="",
    metavar="HASH",
    help="Migrate the targets that have this plan, and no other.",
)
@click.option(
    "--review-only",
    is_flag=True,
    help="Only review every target, and say which plans there are. Changes nothing.",
)
@click.option("--resume", is_flag=True, help="Go on with the targets that an earlier course left.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    default=4,
    show_default=True,
    help="How many targets are migrated at once.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=2,
    show_default=True,
    help="Worker processes on this machine.",
)
@click.option(
    "--scheduler",
    default="",
    metavar="URL",
    help="Use the workers of this Dask scheduler (tcp://…) instead.",
)
@output_options
def fleet(**options: Any) -> None:
    """Migrate many databases, or schemas of one, in waves and with one report.

    FLEET is a file that says which, and in which waves; FLEET.toml by default.
    """
    as_json = options.pop("as_json")
    options.pop("debug")
    archived = run_step("fleet", options, as_json=as_json)
    click.get_current_context().exit(archived.exit_code)
