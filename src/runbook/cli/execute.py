"""Running a notebook by papermill from a command, and telling a person how it ended."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook.errors import RunbookError
from runbook.report.numbers import share

if TYPE_CHECKING:
    from runbook.engine.archiving import Archived

_NAME_WIDTH = 14

NOTEBOOKS = {
    "review": "01_review.ipynb",
    "migrate": "02_migrate.ipynb",
    "verify": "03_verify.ipynb",
}


def notebook_path(step: str) -> Path:
    """Return a step's notebook: inside the installed package, or in the source tree beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "notebooks", package.parents[1] / "notebooks"):
        if (folder / NOTEBOOKS[step]).is_file():
            return folder / NOTEBOOKS[step]
    raise RunbookError(f"The notebook {NOTEBOOKS[step]} is missing.", "Install the package again.")


def run_step(step: str, parameters: dict[str, Any], *, as_json: bool = False) -> "Archived":
    """Run a step's notebook, tell how it ended, and return what came of it.

    What is wrong before a kernel is needed (spec, URL, connection) is raised at once.
    """
    _check_first(parameters)
    archived = _execute(step, parameters)
    if as_json:
        content = archived.record.model_dump(mode="json", exclude={"plan_sql"})
        click.echo(json.dumps(content | {"bundle": str(archived.bundle or "")}, ensure_ascii=False))
    tell(archived, error=as_json)
    return archived


def _check_first(parameters: dict[str, Any]) -> None:
    """Raise what can be known without a kernel, in a twentieth of the time."""
    from runbook.archive.folder import prepare
    from runbook.database import connect, resolve
    from runbook.spec import load_spec

    load_spec(parameters["spec"])
    target = resolve(parameters["database_url"])
    prepare(parameters["reports"])
    connect(target).close()


def _execute(step: str, parameters: dict[str, Any]) -> "Archived":
    """Execute the notebook by the runbook's engine."""
    import logging
    import warnings

    # Papermill logs to standard error what the report holds anyway; tornado, that a socket was
    # closed while the kernel was shut down.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("tornado.general").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill

    found: list[Archived] = []
    try:
        papermill.execute_notebook(
            notebook_path(step),
            None,
            parameters=parameters,
            engine_name="runbook",
            kernel_name="python3",
            progress_bar={"desc": step, "leave": False} if sys.stderr.isatty() else False,
            report=found.append,
        )
    except RunbookError:
        raise
    except (Exception, KeyboardInterrupt):
        # A failed cell, a dead kernel or Ctrl-C: the record says what it was.
        if not found:
            raise
    return found[0]


def tell(archived: "Archived", *, error: bool = False) -> None:
    """Print how a run ended, for a person."""
    record = archived.record
    colour = "green" if record.exit_code == 0 else "red"
    click.echo(click.style(f"{record.step}: {record.outcome}", fg=colour, bold=True), err=error)
    for sentence in filter(None, (record.message, record.remedy)):
        click.echo(f"  {sentence}", err=error)
    for name, text in _lines(archived):
        click.echo(f"  {name:<{_NAME_WIDTH}}{text}", err=error)


def _lines(archived: "Archived") -> Iterator[tuple[str, str]]:
    """Yield what was counted, proved and checked, a name and a text each."""
    record, counts = archived.record, archived.record.counts
    totals = [
        f"{count.total:,} {when}"
        for count, when in ((counts.before, "before"), (counts.after, "after"))
        if count
    ]
    if totals:
        yield "rows", ", ".join(totals)
    shown = counts.after.categories if counts.after else (counts.predicted or {})
    whole = sum(shown.values())
    for label, rows in sorted(shown.items(), key=lambda item: -item[1]):
        yield f"  {label}", f"{rows:>9,}  {share(rows, whole):>6}"
    if record.step == "migrate" and record.plan:
        yield "approved", "this plan" if record.plan.approved else "no plan was named"
    if record.proof:
        yield "proof", "equal" if record.proof["passed"] else "DIFFERENT"
    if record.checks:
        passed = sum(check["passed"] for check in record.checks)
        yield "checks", f"{passed} of {len(record.checks)} passed"
    if record.locked_ms is not None:
        yield "locked", f"{record.locked_ms:,.0f} ms"
    for finding in record.findings:
        if finding["level"] == "warning":
            yield "warning", f"{finding['message']} {finding['remedy']}"
    if archived.bundle:
        report = archived.bundle / "report.html"
        here = Path.cwd()
        yield "report", str(report.relative_to(here) if report.is_relative_to(here) else report)
