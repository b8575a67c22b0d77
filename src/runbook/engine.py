"""The papermill engine: runs a notebook of the runbook and archives what it left behind.

It is what `papermill` uses for these notebooks without being asked: importing this module, which
papermill does for its entry points, puts it in the default engine's place. There it takes only
notebooks that carry our metadata key, and leaves every other one to papermill's own engine. So a
bare `papermill notebooks/02_migrate.ipynb out.ipynb` archives the same bundle as `runbook migrate`.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException
from papermill.translators import papermill_translators
from traitlets.config import Config

if TYPE_CHECKING:
    from runbook.record import Record

KEY = "runbook"
"""The key in a notebook's metadata; its value names the step."""


@dataclass(frozen=True, kw_only=True)
class Archived:
    """What came of a run: its record, and its bundle unless no database was reached."""

    record: "Record"
    bundle: Path | None


Report = Callable[[Archived], None]


class RunbookEngine(NBClientEngine):  # type: ignore[misc]
    """Execute a notebook; if it is ours, archive it with the record that it published."""

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: str | None = None,
        *args: Any,
        report: Report | None = None,
        **kwargs: Any,
    ) -> NotebookNode:
        if KEY not in nb.metadata:
            return super().execute_notebook(nb, kernel_name, output_path, *args, **kwargs)
        from runbook.archive.folder import prepare
        from runbook.database import ARCHIVING

        folder = prepare(str(_parameter(nb, "reports", "reports")))
        os.environ[ARCHIVING] = "yes"
        _hide_url(nb, kernel_name)
        try:
            # Unix sockets instead of TCP ports: nobody else on the machine can listen in.
            # A graceful shutdown stalls 3.4 s in 7 of 94 runs; 1 s is enough for exit hooks.
            manager = {"transport": "ipc", "shutdown_wait_time": 1.0}
            kwargs.setdefault("config", Config(KernelManager=manager))
            # The interrupt that is part of a shutdown is no error to be told about.
            kwargs.setdefault("extra_arguments", ["--log-level=50"])
            executed = super().execute_notebook(nb, kernel_name, output_path, *args, **kwargs)
        finally:
            (report or _tell)(archived := _archive(nb, folder))
        outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
        if archived.record.exit_code and not any(
            output.output_type == "error" and output.ename != "SystemExit" for output in outputs
        ):
            # A cell that ends its kernel with `sys.exit(0)` is no error to papermill.
            raise PapermillException(archived.record.message)
        return executed


def _archive(nb: NotebookNode, folder: Path) -> Archived:
    """Write the bundle of an executed notebook."""
    from runbook.archive.bundle import write_bundle
    from runbook.archive.folder import prepare
    from runbook.errors import RunbookError
    from runbook.report.export import report_html, report_notebook

    published = published_record(nb)
    record = published or _lost_record(nb)
    if published and published.database is None:
        return Archived(record=record, bundle=None)
    if "reports" in record.parameters:  # a notebook's own default may name another folder
        folder = prepare(str(record.parameters["reports"]))
    files = {
        "report.ipynb": report_notebook(nb, record),
        "report.html": report_html(nb, record),
        "plan.sql": (record.plan_sql or "-- No plan was made.\n").encode(),
    }
    try:
        return Archived(record=record, bundle=write_bundle(folder, record, files))
    except OSError as error:
        raise RunbookError(
            f"The run ended as {record.outcome} ({record.message}), but its bundle could not be "
            f"written into {folder}: {error.strerror}.",
            "Make room there, then run `runbook verify`: it archives the state of the database.",
        ) from error


def published_record(nb: NotebookNode) -> "Record | None":
    """Return the record that the notebook published last, or None."""
    from runbook.record import MIME, Record

    found = [
        output.data[MIME]
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]
    return Record.model_validate(found[-1]) if found else None


def _lost_record(nb: NotebookNode) -> "Record":
    """Return what can be said of a run whose kernel ended before it published anything."""
    from runbook.record import Record, now

    record = Record(
        run_id="",
        migration=Path(str(_parameter(nb, "spec", "llamalog"))).stem,
        step=str(nb.metadata[KEY]["step"]),
        started_at=now(),
    )
    record.message = "The kernel ended before it published a result."
    record.remedy = (
        "The database is either as it was or wholly migrated, nothing between: "
        "`runbook verify` tells which."
    )
    record.finished_at = now()
    return record


def _parameter(nb: NotebookNode, name: str, default: object) -> object:
    """Return a parameter as it was passed to papermill."""
    return nb.metadata.get("papermill", {}).get("parameters", {}).get(name, default)


def _hide_url(nb: NotebookNode, kernel_name: str) -> None:
    """Move a database URL out of the notebook into the kernel's environment.

    Papermill writes parameters into the output twice, before this engine and after it; from here on
    there is only a reference.
    """
    from runbook.database import HIDDEN_URL, is_reference

    parameters = nb.metadata.get("papermill", {}).get("parameters", {})
    for name, given in parameters.items():
        if name == "database_url" and isinstance(given, str) and not is_reference(given):
            os.environ[HIDDEN_URL] = given
            parameters[name] = f"env:{HIDDEN_URL}"
        elif isinstance(given, str) and ("://" in given or "password" in given):
            parameters[name] = "hidden"  # most likely a URL under a misspelt name
    translator = papermill_translators.find_translator(kernel_name, "python")
    for cell in nb.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = translator.codify(json.loads(json.dumps(parameters)), "Parameters")


def _tell(archived: Archived) -> None:
    """Say where the report is; used where nobody else reports."""
    place = f" Report: {archived.bundle / 'report.html'}" if archived.bundle else ""
    print(f"{archived.record.outcome}: {archived.record.message}{place}", file=sys.stderr)


papermill_engines.register(None, RunbookEngine)
