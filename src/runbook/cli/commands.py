"""The commands, and how an error leaves them: one sentence, one remedy, the right exit code."""

import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from runbook import __version__, collector
from runbook.cli.approve import approve
from runbook.cli.archive import archive, keygen
from runbook.cli.execute import run_step
from runbook.cli.export import export
from runbook.cli.fleet import fleet
from runbook.cli.options import (
    database_reference,
    models_option,
    pace_options,
    plan_options,
    recorded_options,
    rehearsal_options,
    report_options,
    target_options,
    trust_option,
)
from runbook.cli.terminal import say, say_json
from runbook.errors import RunbookError

if TYPE_CHECKING:
    from runbook.record import Record


class _Group(click.Group):
    """Turns the errors meant for people into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click ends the command well when nobody reads on
        except RunbookError as error:
            failure = error
            told = traceback.format_exc()
        except Exception as error:
            failure = _bug(error)
            told = traceback.format_exc()
        _tell_failure(failure, told)
        ctx.exit(failure.exit_code)


def _bug(error: Exception) -> RunbookError:
    return RunbookError(
        f"An unexpected error ended the command: {type(error).__name__}: {error}.",
        "This is a bug; --debug shows the traceback.",
    )


def _tell_failure(failure: RunbookError, told: str) -> None:
    """Print what failed and what to do; libraries' messages may repeat a part of the URL."""
    from runbook.secrets import scrubber_for

    arguments = sys.argv[1:]
    scrubber = scrubber_for(arguments)
    if "--debug" in arguments:
        for line in scrubber.text(told).splitlines():
            say(line, err=True)
    if "--json" in arguments:
        say_json(scrubber.tree(_as_json(failure)))
    message = scrubber.text(failure.message)
    say("Error:", err=True, fg="red", bold=True, after=f" {message}")
    say(scrubber.text(failure.remedy), err=True)


def _as_json(error: RunbookError) -> dict[str, Any]:
    return {
        "outcome": error.outcome.value,
        "exit_code": error.exit_code,
        "message": error.message,
        "remedy": error.remedy,
        "bundle": "",
    }


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runbook")
def main() -> None:
    """Change a production PostgreSQL database so that the archived report proves how.

    \b
    Exit codes: 0 done and checked, 1 unexpected error, 2 wrong usage, 3 refused
    before any change, 4 applied but a check failed, 5 rolled back, 6 stopped
    midway (online): run again to resume, or roll back.
    """
    collector.spare()


main.add_command(approve)
main.add_command(archive)
main.add_command(export)
main.add_command(fleet)
main.add_command(keygen)


def _run(step: str, options: dict[str, Any]) -> None:
    """Run a step with a command's options, and exit with its code."""
    as_json = options.pop("as_json")
    options.pop("debug")
    options["database_url"] = database_reference(options["database_url"])
    archived = run_step(step, options, as_json=as_json)
    click.get_current_context().exit(archived.exit_code)


@main.command()
@target_options
@report_options
@plan_options
@models_option
def review(**options: Any) -> None:
    """Read the database and report what would happen. Changes nothing."""
    _run("review", options)


@main.command()
@target_options
@report_options
@plan_options
@click.option(
    "--scratch",
    type=click.Choice(["database", "schema", "embedded"]),
    default="database",
    show_default=True,
    help="Where the copy is made: on the same server, or on an embedded one.",
)
@click.option(
    "--rows",
    type=click.IntRange(0),
    default=100_000,
    show_default=True,
    help="How many rows to copy at most; 0: all.",
)
@rehearsal_options
@models_option
def rehearse(**options: Any) -> None:
    """Try the plan on a scratch copy: up, down and up again, each time proved and timed."""
    _run("rehearse", options)


@main.command()
@target_options
@report_options
@plan_options
@models_option
@pace_options
@click.option("--approved-plan", default="", metavar="HASH", help="Refuse any plan but this one.")
@click.option(
    "--require-approval",
    is_flag=True,
    help="Refuse a plan that nobody approved with `runbook approve`.",
)
@click.option(
    "--approver-key",
    "approver_keys",
    multiple=True,
    metavar="KEY",
    callback=lambda context, option, keys: ",".join(keys),
    help="A public key that must have signed the approval; given several times, any of them. "
    "Default: the run's own, if it signs.",
)
@click.option(
    "--prisma-dir",
    default="",
    metavar="DIR",
    help="Record the migration of this Prisma folder as run, with the change.",
)
@click.option(
    "--strict", is_flag=True, help="Refuse where more rows match no rule than the spec expects."
)
def migrate(**options: Any) -> None:
    """Apply the migration, prove that no data was lost, check it, archive the report.

    Resumes an online run that was stopped.
    """
    _run("migrate", options)


@main.command()
@target_options
@report_options
@trust_option
@models_option
@click.option(
    "--strict",
    is_flag=True,
    help="Fail (4) where others have changed rows, or columns that the rules read, since the run.",
)
def verify(**options: Any) -> None:
    """Ask all checks of an applied migration again. Changes nothing."""
    _run("verify", options)


@main.command()
@target_options
@report_options
@recorded_options
@click.option(
    "--lock-budget-ms",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="How long categories set by hand may be counted anew under the lock.",
)
@click.option(
    "--discard-categories", is_flag=True, help="Lose the categories that the rules do not give."
)
def rollback(**options: Any) -> None:
    """Take back the recorded run, or an online run that was stopped, as if it had never been.

    Refused, with every reason, where something was built since on what would go.
    """
    _run("rollback", options)


@main.command()
@target_options
@report_options
@recorded_options
@click.option(
    "--watch-s",
    type=click.IntRange(0, 3600),
    default=10,
    show_default=True,
    help="How long to watch pg_stat_statements for uses.",
)
@click.option("--force", is_flag=True, help="Remove it although it is in use.")
def contract(**options: Any) -> None:
    """Remove the view under the old name; refused while it is in use."""
    _run("contract", options)


@main.command()
@target_options
def status(**options: Any) -> None:
    """Say where the migration is, how long it will still take, and what to do. Changes nothing."""
    from runbook.cli.status import show_status

    options["database_url"] = database_reference(options["database_url"])
    show_status(options)


@main.command()
@target_options
@plan_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["sql", "json", "flyway", "liquibase"]),
    default="sql",
    show_default=True,
    help="SQL for psql, JSON, or a file for another tool.",
)
def plan(**options: Any) -> None:
    """Print the plan. Changes nothing, starts no notebook."""
    from runbook.cli.show_plan import show_plan

    options["database_url"] = database_reference(options["database_url"])
    show_plan(options)


@main.command()
@report_options
@click.option("--fresh", is_flag=True, help="Remove the demo database first and start over.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def demo(reports: str, fresh: bool, debug: bool) -> None:
    """Review, migrate and verify the sample database on an embedded PostgreSQL."""
    from runbook.embedded.database import DEMO, forget

    if fresh:
        forget(DEMO)
    common = {
        "database_url": f"embedded:{DEMO}",
        "spec": "llamalog",
        "ledger_schema": "runbook",
        "reports": reports,
    }
    reviewed = _demo_step(review, common)
    approved = reviewed.plan.sha256 if reviewed.plan else ""
    _demo_step(migrate, common | {"approved_plan": approved})
    _demo_step(verify, common)


def _demo_step(command: click.Command, given: dict[str, Any]) -> "Record":
    """Run a step of the demo with its command's defaults; end where it did not succeed."""
    defaults = command.make_context(str(command.name), []).params
    parameters = {name: defaults[name] for name in defaults if name not in ("as_json", "debug")}
    record = run_step(str(command.name), parameters | given, is_last=False).record
    say()
    if record.exit_code:
        click.get_current_context().exit(record.exit_code)
    return record
