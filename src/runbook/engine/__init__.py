"""The papermill engine: runs a notebook of the runbook and archives what it left behind.

It is what `papermill` uses for these notebooks without being asked: importing this module, which
papermill does for its entry points, puts it in the places of the default engine and of `nbclient`.
There it takes only notebooks that carry our metadata key, and leaves every other one to papermill's
own engine. So a bare `papermill notebooks/02_migrate.ipynb out.ipynb` archives the same bundle as
`runbook migrate`. Nothing is loaded here but papermill: an error would end it for every notebook.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines

from runbook.engine.archiving import KEY, Archived

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
        in_process: bool = False,
        fleet: dict[str, Any] | None = None,
        **options: Any,
    ) -> NotebookNode:
        """Return the executed notebook. Raises `RunFailed` unless the run succeeded.

        `report` is told what was archived, in place of standard error, and errors before the run
        then reach the caller as they are; `destination` is where to archive, in place of what the
        notebook's parameters name; `in_process` runs its code in this thread, without a kernel;
        `fleet` is the fleet that the run is a part of, for the record.
        """
        if KEY not in nb.metadata:
            return super().execute_notebook(nb, kernel_name, output_path, *args, **options)
        from runbook.engine.execution import execute
        from runbook.engine.failure import RunFailed
        from runbook.errors import RunbookError

        names = ("progress_bar", "log_output", "autosave_cell_every")
        options |= dict(zip(names, args, strict=False))
        try:
            return execute(
                nb,
                kernel_name,
                output_path,
                options,
                report=report,
                destination=destination,
                in_process=in_process,
                fleet=fleet,
            )
        except RunbookError as error:
            if report:
                raise
            raise RunFailed(error.message, error.remedy, error.exit_code, told=False) from None


for _name in (None, "nbclient"):
    papermill_engines.register(_name, RunbookEngine)
