"""The options that commands share."""

import os
from collections.abc import Callable
from typing import Any

import click

from runbook.cli.terminal import say
from runbook.errors import UsageError

Command = Callable[..., Any]

_OUTPUT = (
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="One JSON object on standard output, the rest on standard error.",
    ),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
)

_TARGET = (
    click.option(
        "--database-url",
        metavar="URL",
        help="postgresql://…, env:NAME[/DATABASE] or embedded:NAME[/DATABASE]. Default: the "
        "variable DATABASE_URL.",
    ),
    click.option(
        "--spec",
        default="llamalog",
        show_default=True,
        help="A shipped spec, or a .toml file; with @SCHEMA behind it for the table there.",
    ),
    click.option(
        "--ledger-schema", default="runbook", show_default=True, help="Schema of the ledger."
    ),
    *_OUTPUT,
)

trust_option = click.option(
    "--trust-owner-code",
    is_flag=True,
    help="Run code of less privileged roles on the table with this role's rights.",
)

models_option = click.option(
    "--allow-models",
    is_flag=True,
    help="Import the Python module that the spec names as its models.",
)

_RECORDED = (
    click.option(
        "--approved-plan",
        default="",
        metavar="HASH",
        help="Run the recorded plan of this hash, whatever this version would make.",
    ),
    click.option(
        "--trusted-key",
        "trusted_keys",
        multiple=True,
        metavar="KEY",
        callback=lambda context, option, keys: ",".join(keys),
        help="A public key that must have signed the bundle that vouches for a recorded plan; "
        "given several times, any of them. Default: the run's own, if it signs.",
    ),
)

_REPORTS = click.option(
    "--reports",
    default="reports",
    show_default=True,
    metavar="PLACE",
    help="Archive of the reports: a folder, or a URL such as s3://bucket/folder.",
)


_KEY_VARIABLE = "RUNBOOK_SIGNING_KEY"
_PDF_VARIABLE = "RUNBOOK_PDF"
_PROFILE_VARIABLE = "RUNBOOK_PROFILE"


def _note(variable: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    """Return what notes an option's value in the environment, where the engine looks for it: bare
    papermill has no options of ours."""

    def note(context: click.Context, parameter: click.Parameter, given: str | None) -> None:
        if given:
            os.environ[variable] = given

    return note


key_option = click.option(
    "--signing-key",
    metavar="KEY",
    expose_value=False,
    callback=_note(_KEY_VARIABLE),
    help=f"Sign with this key: a file, or env:NAME. Default: the variable {_KEY_VARIABLE}.",
)

_PDF = click.option(
    "--pdf",
    flag_value="yes",
    expose_value=False,
    callback=_note(_PDF_VARIABLE),
    help=f"Archive the report as PDF, too. Also by the variable {_PDF_VARIABLE}.",
)

_PROFILE = click.option(
    "--profile",
    flag_value="yes",
    expose_value=False,
    callback=_note(_PROFILE_VARIABLE),
    help="Add to the report's timings what is not the database's: kernel, cells, report. Also by "
    f"the variable {_PROFILE_VARIABLE}.",
)

_REPORT = (_REPORTS, key_option, _PDF, _PROFILE)

_ARCHIVE = (
    _REPORTS,
    click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output."),
    click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks."),
)

_PLAN = (
    click.option(
        "--mode",
        type=click.Choice(["auto", "atomic", "online"]),
        default="auto",
        show_default=True,
        help="auto: online where the lock is likely to exceed the budget.",
    ),
    click.option(
        "--lock-timeout-ms",
        type=click.IntRange(1),
        default=100,
        show_default=True,
        help="How long a try may wait for a lock, and the application behind it.",
    ),
    click.option(
        "--lock-budget-ms",
        type=click.IntRange(1),
        default=1_000,
        show_default=True,
        help="How long a lock may block the application before `auto` goes online.",
    ),
    click.option(
        "--statement-timeout-ms",
        type=click.IntRange(0),
        default=3_600_000,
        show_default=True,
        help="How long one statement may take; 0: no limit.",
    ),
    click.option(
        "--old-name-view",
        is_flag=True,
        help="Leave a view under the old name, for an application that knows no other yet.",
    ),
    click.option(
        "--proof",
        type=click.Choice(["spec", "hash", "sha256"]),
        default="spec",
        show_default=True,
        help="hash: 128 bits a row; sha256: cryptographic; spec: what the spec says.",
    ),
)


_MAX_WAIT = click.option(
    "--max-wait-ms",
    type=click.IntRange(1),
    default=300_000,
    show_default=True,
    help="How long others may hold the run up at one place before it gives up.",
)


def _number(name: str, least: int, default: int, help_: str) -> Callable[[Command], Command]:
    """Return an option that takes a number."""
    kind = click.IntRange(least)
    return click.option(name, type=kind, default=default, show_default=True, help=help_)


_PACE = (
    _MAX_WAIT,
    _number("--jobs", 1, 1, "Online: connections that backfill at once."),
    _number("--batch-ms", 1, 50, "Online: how long a batch should take."),
    _number(
        "--max-lag-ms", 0, 10_000, "Online: pause while a replica is later than this; 0: no limit."
    ),
    _number(
        "--max-unarchived",
        0,
        64,
        "Online: pause while more WAL segments wait for the archive; 0: no limit.",
    ),
    _number(
        "--max-active",
        0,
        0,
        "Online: pause while more sessions than these are active; 0: no limit.",
    ),
)


def _with(options: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


output_options = _with(_OUTPUT)
target_options = _with(_TARGET)
report_options = _with(_REPORT)
archive_options = _with(_ARCHIVE)
plan_options = _with((*_PLAN, trust_option))
pace_options = _with(_PACE)
rehearsal_options = _with(_PACE[:2])
recorded_options = _with((_PLAN[1], _MAX_WAIT, trust_option, *_RECORDED))


_VISIBLE = (
    "Warning: the password in --database-url can be read in the process list; "
    "keep the URL in a variable and give --database-url env:NAME."
)


def database_reference(given: str | None) -> str:
    """Return the database URL: the option's, else a reference to DATABASE_URL.

    A password on the command line is warned of: every account of the machine may read it there.
    Raises `UsageError` if there is neither: no command has a database that works by itself.
    """
    if given:
        from runbook.secrets import holds_password

        if holds_password(given):
            say(_VISIBLE, err=True)
        return given
    if os.environ.get("DATABASE_URL"):
        return "env:DATABASE_URL"
    raise UsageError(
        "No database is named.",
        "Give --database-url, or set the environment variable DATABASE_URL.",
    )
