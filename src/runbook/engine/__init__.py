"""The papermill engine: runs a notebook of the runbook and archives what it left behind.

It is what `papermill` uses for these notebooks without being asked: importing this module, which
papermill does for its entry points, puts it in the default engine's place. There it takes only
notebooks that carry our metadata key, and leaves every other one to papermill's own engine. So a
bare `papermill notebooks/02_migrate.ipynb out.ipynb` archives the same bundle as `runbook migrate`.
"""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException
from papermill.translators import papermill_translators
from traitlets.config import Config

from runbook.engine.archiving import KEY, Archived, archive_run, parameter, tell

if TYPE_CHECKING:
    from runbook.archive.destination import Destination

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
        destination: "Destination | None" = None,
        **kwargs: Any,
    ) -> NotebookNode:
        if KEY not in nb.metadata:
            return super().execute_notebook(nb, kernel_name, output_path, *args, **kwargs)
        from runbook.archive.destination import prepare
        from runbook.database import ARCHIVING

        destination = destination or prepare(str(parameter(nb, "reports", "reports")))
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
            (report or tell)(archived := archive_run(nb, destination))
        outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
        if archived.exit_code and not any(
            output.output_type == "error" and output.ename != "SystemExit" for output in outputs
        ):
            # A cell that ends its kernel with `sys.exit(0)` is no error to papermill.
            raise PapermillException(archived.problem or archived.record.message)
        return executed


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


papermill_engines.register(None, RunbookEngine)
