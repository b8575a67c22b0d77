"""Running a notebook by papermill from a command, and telling a person how it ended."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.cli.terminal import say, say_json
from runbook.errors import RunbookError
from runbook.numbers import duration, share, span

if TYPE_CHECKING:
    from runbook.archive.destination import Destination
    from runbook.engine.archiving import Archived

_NAME_WIDTH = 14


def run_step(
    step: str, parameters: dict[str, Any], *, as_json: bool = False, is_last: bool = True
) -> "Archived":
    """Run a step's notebook, tell how it ended, and return what came of it.

    Once it is archived no signal changes the exit code any more, unless another step follows.

    What is wrong before a kernel is needed (spec, URL, connection) is raised at once.
    """
    destination = _check_first(parameters)
    archived = _execute(step, parameters, destination, is_last=is_last)
    if as_json:
        say_json(_as_json(archived))
    tell(archived, error=as_json)
    return archived


def _as_json(archived: "Archived") -> dict[str, Any]:
    """Return what came of a run as one JSON object."""
    content = archived.record.content()
    content["bundle"] = archived.bundle.location if archived.bundle else ""
    if archived.problem:
        content["exit_code"] = archived.exit_code
        content["archive_problem"] = archived.problem
        content["spooled"] = str(archived.spooled or "")
    return content


def _check_first(parameters: dict[str, Any]) -> "Destination":
    """Raise what can be known without a kernel, in a twentieth of the time."""
    from runbook.archive.destination import prepare

    if "fleet" in parameters:
        from runbook.fleet.file import read_fleet
        from runbook.spec import load_spec

        load_spec(read_fleet(parameters["fleet"]).spec)
        return prepare(parameters["reports"])
    from runbook.database import connect, resolve
    from runbook.spec import load_spec

    load_spec(parameters["spec"])
    target = resolve(parameters["database_url"])
    destination = prepare(parameters["reports"])
    connect(target).close()
    return destination


def _execute(
    step: str, parameters: dict[str, Any], destination: "Destination", *, is_last: bool
) -> "Archived":
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

        from runbook.engine.notebooks import notebook_path
        from runbook.engine.signals import ignore

    found: list[Archived] = []

    def note(archived: "Archived") -> None:
        found.append(archived)
        if is_last:
            ignore()

    try:
        papermill.execute_notebook(
            notebook_path(step),
            None,
            parameters=parameters,
            engine_name="runbook",
            kernel_name="python3",
            progress_bar=_bar(step) if sys.stderr.isatty() else False,
            report=note,
            destination=destination,
        )
    except RunbookError:
        raise
    except (Exception, KeyboardInterrupt):
        # A failed cell, a dead kernel or Ctrl-C: the record says what it was.
        if not found:
            raise
    return found[0]


def _bar(step: str) -> dict[str, Any]:
    """Return the progress bar: short, so that the line has room for what the run tells."""
    form = "{desc}: {percentage:3.0f}% |{bar:10}| {elapsed}{postfix}"
    return {"desc": step, "leave": False, "bar_format": form, "dynamic_ncols": True}


def tell(archived: "Archived", *, error: bool = False) -> None:
    """Print how a run ended, for a person."""
    record = archived.record
    colour = "green" if record.exit_code == 0 else "red"
    say(f"{record.step}: {record.outcome}", err=error, fg=colour, bold=True)
    for sentence in filter(None, (record.message, record.remedy)):
        say(f"  {sentence}", err=error)
    for name, text in _lines(archived):
        say(f"  {name:<{_NAME_WIDTH}}{text}", err=error)
    from runbook.engine.archiving import undelivered

    for sentence in undelivered(archived):
        say(f"  {sentence}", err=True, fg="red")


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
        yield "approved", record.plan.approval_said
    if record.rehearsal:
        yield from _rehearsed(record.rehearsal)
    if record.proof:
        yield "proof", _PROVED[record.proof["passed"]]
    if record.checks:
        passed = sum(check["passed"] for check in record.checks)
        yield "checks", f"{passed} of {len(record.checks)} passed"
    if record.locked_ms is not None:
        yield "locked", f"{record.locked_ms:,.0f} ms{' at the longest' if record.online else ''}"
    phases = [one for one in (record.online or {}).get("phases", ()) if one["ms"] is not None]
    if phases:
        yield "phases", ", ".join(f"{one['phase']} {duration(one['ms'])}" for one in phases)
    for finding in record.findings:
        told = finding["level"] == "warning" or (
            finding["level"] == "blocker" and finding["message"] != record.message
        )
        if told:
            yield finding["level"], f"{finding['message']} {finding['remedy']}"
    if archived.bundle:
        yield "report", _nearby(archived.bundle.report)


def _rehearsed(rehearsal: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a rehearsal measured, and what that comes to."""
    rows, total = rehearsal["rows"], rehearsal["of_rows"]
    yield "copy", f"{rows:,} of {total:,} rows, in {rehearsal['where']}"
    for leg in rehearsal["legs"]:
        how = "proved and checked" if leg["passed"] else "FAILED"
        yield f"  {leg['name']}", f"{duration(leg['ms'])}, lock {duration(leg['locked_ms'])}, {how}"
    for one in rehearsal.get("estimates", ()):
        took, locked = span(*one["ms"]), span(*one["locked_ms"])
        yield f"all rows {one['name']}", f"{took}, lock {locked} (estimated)"


_PROVED = {True: "equal", False: "DIFFERENT", None: "not shown: others wrote meanwhile"}


def _nearby(place: str) -> str:
    """Return a path as it is seen from the current folder; a URL as it is."""
    path, here = Path(place), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else place
