"""Executing one of our notebooks: secrets out, cells run, the end told, the bundle archived."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.execute import raise_for_execution_errors
from papermill.iorw import write_ipynb
from traitlets.config import Config

from runbook.engine.archiving import Archived, archive_run, parameter, tell
from runbook.engine.client import Client
from runbook.engine.ending import Cause, Ending, settle
from runbook.engine.failure import RunFailed
from runbook.engine.inprocess import Here
from runbook.engine.manager import Manager
from runbook.engine.parameters import Prepared, take_secrets
from runbook.engine.signals import heeding
from runbook.secrets import Scrubber

if TYPE_CHECKING:
    from runbook.archive.destination import Destination
    from runbook.engine import Report

SOCKET_PATH = 90
"""The longest path of a socket that leaves room for its number; the system takes 103 bytes."""


def execute(
    nb: NotebookNode,
    kernel_name: str,
    output_path: str | None,
    options: dict[str, Any],
    *,
    report: "Report | None",
    destination: "Destination | None",
    in_process: bool,
    fleet: dict[str, Any] | None,
) -> NotebookNode:
    """Return the executed notebook; whatever happens once its first cell was to run is archived.

    `in_process` is whether its code runs in this thread, and not in a kernel; `fleet` is what the
    record says of the fleet that the run is a part of.

    Raises `UsageError` if nothing could be archived, before anything is run, and `RunFailed` unless
    the run succeeded.
    """
    from runbook.archive.destination import prepare

    destination = destination or prepare(str(parameter(nb, "reports", "reports")))
    prepared = take_secrets(nb, kernel_name)
    managing = ("progress_bar", "log_output", "autosave_cell_every")
    manager = Manager(
        nb,
        prepared.scrubber,
        output_path=output_path,
        **{name: options[name] for name in managing if name in options},
    )
    running = (
        _here(manager, prepared)
        if in_process
        else _in_kernel(manager, prepared, kernel_name, options)
    )
    with _scrubbed_logs(prepared.scrubber), running as runner:
        # While a kernel works this process waits.
        loading = Thread(target=_load_report, name="report", daemon=True)
        loading.start()
        with heeding(runner.interrupt):
            ending = Ending(cause=Cause.BROKEN, sentence="The runbook's own engine failed.")
            manager.notebook_start()
            try:
                ending = runner.run()
            finally:
                record = settle(nb, ending)
                record.fleet = fleet or record.fleet
                manager.notebook_complete()
                loading.join()
                archived = archive_run(nb, record, destination, manager.profile)
            (report or tell)(archived)
        if archived.exit_code:
            raise _failure(nb, archived)
    return nb


class Runner(Protocol):
    """Executes the cells of a notebook."""

    def run(self) -> Ending:
        """Execute them; return how that went."""

    def interrupt(self, asked: str) -> None:
        """Note the name of a signal that asks the run to end."""


@contextmanager
def _here(manager: Manager, prepared: Prepared) -> Iterator[Runner]:
    """Yield what executes the cells in this thread."""
    yield Here(manager, prepared)


@contextmanager
def _in_kernel(
    manager: Manager, prepared: Prepared, kernel_name: str, options: dict[str, Any]
) -> Iterator[Runner]:
    """Yield what executes the cells in a kernel of their own, which has ended afterwards."""
    with (
        _connection_file() as connection,
        closing(_client(manager, prepared, kernel_name, connection, options)) as client,
    ):
        yield client


def _load_report() -> None:
    """Load what the report will need. What fails here fails again where it is used."""
    with suppress(Exception):
        from runbook.report.export import load

        load()


def _client(
    manager: Manager,
    prepared: Prepared,
    kernel_name: str,
    connection: dict[str, Any],
    options: dict[str, Any],
) -> Client:
    """Return the client with the options that papermill passes to nbclient."""
    own = ("input_path", "progress_bar", "autosave_cell_every", "start_timeout", "startup_timeout")
    timeouts = ("execution_timeout", "timeout")
    limit = next((options[name] for name in timeouts if options.get(name)), None)
    rest = {name: item for name, item in options.items() if name not in (*own, *timeouts)}
    # A graceful shutdown stalls 3.4 s in 7 of 94 runs; 1 s is enough for exit hooks. The interrupt
    # that is part of it is no error to be told about, hence the level.
    rest.setdefault("config", Config(KernelManager=connection | {"shutdown_wait_time": 1.0}))
    given = rest.get("extra_arguments", ["--log-level=50"])
    # Before 9.7 IPython puts the current folder on the path whatever `SAFE_PATH` says.
    rest["extra_arguments"] = [*given, "--InteractiveShellApp.ignore_cwd=True"]
    return Client(
        manager,
        prepared,
        limit_s=limit if limit and limit > 0 else None,
        kernel_name=kernel_name,
        startup_timeout=options.get("start_timeout", 60),
        log=logging.getLogger("papermill"),
        **rest,
    )


@contextmanager
def _connection_file() -> Iterator[dict[str, Any]]:
    """Yield the kernel manager's settings for a kernel that nobody else can listen to.

    Sockets in a folder of the account's own instead of TCP ports, where the platform has them;
    where the temporary folder's path is too long for a socket, TCP with encryption.
    """
    with tempfile.TemporaryDirectory(prefix="runbook-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "k.json"
        if os.name == "posix" and len(os.fsencode(file)) <= SOCKET_PATH:
            yield {"transport": "ipc", "connection_file": str(file)}
        else:
            yield {"transport": "tcp", "transport_encryption": "auto", "connection_file": str(file)}


class _Scrubbing(logging.Filter):
    """Takes secrets out of a log record."""

    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self._scrubber = scrubber

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._scrubber.text(record.getMessage()), None
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = self._scrubber.text(text), None
        return True


@contextmanager
def _scrubbed_logs(scrubber: Scrubber) -> Iterator[None]:
    """Take secrets out of everything that is logged meanwhile, whoever logs it."""
    handlers = {*logging.getLogger().handlers, *logging.getLogger("papermill").handlers}
    if logging.lastResort:
        handlers.add(logging.lastResort)
    filtering = _Scrubbing(scrubber)
    for handler in handlers:
        handler.addFilter(filtering)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(filtering)


def _failure(nb: NotebookNode, archived: Archived) -> RunFailed:
    """Write the output notebook with papermill's marks at the cell that failed; return the error.

    Papermill itself would do so after a cell's error only, and print a traceback.
    """
    output_path = nb.metadata.papermill.get("output_path")
    record = archived.record
    message = archived.problem or record.message
    try:
        raise_for_execution_errors(nb, output_path)
    except PapermillExecutionError as error:
        return RunFailed(
            message,
            record.remedy,
            archived.exit_code,
            index=error.cell_index,
            execution_count=error.exec_count,
            source=error.source,
            ename=error.ename,
            evalue=error.evalue,
            traceback=error.traceback,
        )
    write_ipynb(nb, output_path)
    return RunFailed(message, record.remedy, archived.exit_code)
