"""The client of a kernel: runs the cells, watches the kernel, and knows how it ended."""

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from typing import Any

from jupyter_core.utils import ensure_async, run_sync
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient

from runbook.engine.ending import Cause, Ending, failed, named
from runbook.engine.manager import Manager
from runbook.engine.parameters import Prepared
from runbook.record import PROGRESS


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Executes a notebook cell by cell until one does not succeed.

    Interrupts do not end this process but the kernel's cell: psycopg cancels the running query on
    KeyboardInterrupt, the run rolls back, and the kernel publishes the record of it.
    """

    POLL_S = 0.2
    """How often the kernel is looked at."""
    GRACE_S = 10.0
    """How long an interrupted cell may take to end before the kernel is killed."""
    OUTPUT_TIMEOUT_S = 60
    """How long the output of a cell that has ended may be on its way."""

    def __init__(
        self,
        manager: Manager,
        prepared: Prepared,
        *,
        limit_s: float | None,
        **options: Any,
    ) -> None:
        super().__init__(manager, iopub_timeout=self.OUTPUT_TIMEOUT_S, **options)
        self._prepared = prepared
        self._limit_s = limit_s
        self._progress: dict[str, Any] | None = None
        self._asked = ""
        """The signal by which the run was asked to end."""
        self._cell = _Running()
        self._kernel = ExitStack()
        self._ending = Ending(cause=Cause.COMPLETED)

    def run(self) -> Ending:
        """Start a kernel, execute the cells, and ask it to end; return how that went.

        The kernel ends by itself meanwhile: `close` waits for it.
        """
        self.reset_execution_trackers()
        started = False
        try:
            # What a cell prints comes by messages, scrubbed. What a library writes to the process's
            # own streams would reach the terminal as it is.
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with self.nb_man.profile.timed("kernel: start"):
                self._kernel.enter_context(
                    self.setup_kernel(env=self._prepared.environment, **quiet)
                )
            started = True
            self._execute_cells()
            if self._ending.cause is Cause.COMPLETED:
                told = self.wait_for_reply(self.kc.kernel_info())
                self.nb.metadata["language_info"] = told["content"]["language_info"]
            if run_sync(self.km.is_alive)():
                run_sync(self.km.request_shutdown)()
        except Exception as error:
            if started:
                raise
            self._note_not_started(error)
        return self._ending

    def close(self) -> None:
        """Wait until the kernel has ended; it is killed where it does not."""
        self._kernel.close()
        if self.km is not None:
            self._cleanup_kernel()

    def interrupt(self, asked: str) -> None:
        """Note that a signal asks the run to end; the watch does the rest.

        The first one counts. A second must not reach the kernel, which is publishing its record.
        """
        self._asked = self._asked or asked

    # -- cells ---------------------------------------------------------------------------------

    def _execute_cells(self) -> None:
        for place, cell in enumerate(self.nb.cells):
            if self._asked and cell.cell_type == "code":
                sentence = f"{self._interrupted()} before {named(cell)}."
                self._end(Cause.INTERRUPTED, place, sentence, begun=False)
                return
            if not self._execute_cell(place, cell):
                return
        self._end(Cause.COMPLETED, None, "")

    def _execute_cell(self, place: int, cell: NotebookNode) -> bool:
        """Execute one cell; return whether it succeeded."""
        self.nb_man.cell_start(cell, place)
        self._cell = _Running(source=self._prepared.sources.get(place))
        good, runs = False, cell.cell_type == "code"
        try:
            with self.nb_man.profile.timed(named(cell)) if runs else nullcontext():
                self.execute_cell(cell, place)
            good = True
        except CellExecutionError as error:
            self._note_error(place, cell, error)
        except DeadKernelError:
            self._note_death(place, cell)
        except CellTimeoutError:
            self._end(
                Cause.FAILED,
                place,
                f"The output of {named(cell)} did not arrive in {self.OUTPUT_TIMEOUT_S} s.",
            )
        finally:
            if not good:
                self.nb_man.cell_exception(cell, cell_index=place)
            self.nb_man.cell_complete(cell, cell_index=place)
        return good

    def _note_error(self, place: int, cell: NotebookNode, error: CellExecutionError) -> None:
        """Note what an error of a cell means."""
        text = self._prepared.scrubber.text(str(error.evalue))
        if self._cell.interrupted:
            self._end(*self._interruption(place, cell))
        elif error.ename == "SystemExit":
            self._end(Cause.EXITED, place, f"{named(cell)} ended the run by sys.exit({text}).")
        elif error.ename == "KeyboardInterrupt":
            self._end(Cause.INTERRUPTED, place, f"The run was interrupted in {named(cell)}.")
        else:
            self._end(Cause.FAILED, place, failed(cell, str(error.ename), text))

    def _note_death(self, place: int, cell: NotebookNode) -> None:
        """Note how a kernel ended that did not answer."""
        if self._cell.killed:
            cause, place, sentence = self._interruption(place, cell)
            forced = f"The kernel did not react for {self.GRACE_S:g} s and was killed."
            self._end(cause, place, f"{sentence} {forced}")
        elif self._asked:
            cause, place, sentence = self._interruption(place, cell)
            self._end(cause, place, f"{sentence} The kernel ended at once.")
        else:
            self._end(Cause.KILLED, place, f"{self._death()} while {named(cell)} ran.")

    def _interruption(self, place: int, cell: NotebookNode) -> tuple[Cause, int, str]:
        if self._asked:
            return Cause.INTERRUPTED, place, f"{self._interrupted()} while {named(cell)} ran."
        return (
            Cause.TIMED_OUT,
            place,
            f"{named(cell)} ran longer than the execution timeout of {self._limit_s:g} s and was "
            "interrupted.",
        )

    def _interrupted(self) -> str:
        by = "Ctrl-C (SIGINT)" if self._asked == "SIGINT" else self._asked
        return f"The run was interrupted by {by}"

    def _death(self) -> str:
        """Return how the kernel's process ended, in words."""
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is None:
            return "The kernel ended"
        if code >= 0:
            return f"The kernel ended by itself with exit code {code}"
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        hint = ", as the operating system does when memory runs out," if name == "SIGKILL" else ""
        return f"The kernel was killed by {name}{hint}"

    def _note_not_started(self, error: Exception) -> None:
        """Note why no cell could run, at the first one that would have."""
        place = next((n for n, cell in enumerate(self.nb.cells) if cell.cell_type == "code"), None)
        if self._asked:
            sentence = f"{self._interrupted()} before its kernel had started."
            self._end(Cause.INTERRUPTED, place, sentence, begun=False)
        else:
            reason = self._prepared.scrubber.text(str(error)).strip().rstrip(".")
            sentence = f"The kernel did not start: {reason}."
            self._end(Cause.NOT_STARTED, place, sentence, begun=False)

    def _end(self, cause: Cause, place: int | None, sentence: str, *, begun: bool = True) -> None:
        self._ending = Ending(
            cause=cause,
            place=place,
            begun=begun,
            sentence=sentence[:1].upper() + sentence[1:],
            progress=self._progress,
        )

    # -- the kernel ----------------------------------------------------------------------------

    async def async_start_new_kernel_client(self) -> Any:
        """Connect to the kernel; it is killed if the run is asked to end meanwhile.

        Its `execute` sends a cell's real source where the notebook shows another one.
        """
        watch = asyncio.ensure_future(self._kill_when_asked())
        try:
            await super().async_start_new_kernel_client()
        finally:
            watch.cancel()
        send = self.kc.execute

        def execute(code: str, *args: Any, **options: Any) -> Any:
            return send(code if self._cell.source is None else self._cell.source, *args, **options)

        self.kc.execute = execute
        return self.kc

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    async def _kill_when_asked(self) -> None:
        while not self._asked:
            await asyncio.sleep(self.POLL_S)
        await ensure_async(self.km.signal_kernel(signal.SIGKILL))

    async def _async_poll_kernel_alive(self) -> None:
        """Watch the kernel while a cell runs: interrupt, kill, and notice its end."""
        while await ensure_async(self.kc.is_alive()):
            await asyncio.sleep(self.POLL_S)
            await self._interrupt_or_kill()
            self.nb_man.autosave_cell()
        await asyncio.sleep(self.POLL_S)  # what it sent before is still being read
        self.task_poll_for_reply.cancel()

    async def _interrupt_or_kill(self) -> None:
        running = self._cell
        late = self._limit_s is not None and running.seconds > self._limit_s
        if not (self._asked or late):
            return
        # A kernel ignores an interrupt that comes before it has begun the cell.
        if not running.interrupted and running.begun:
            running.interrupted = True
            running.asked_at = running.asked_at or time.monotonic()
            _tell(f"{self._asked or 'Execution timeout'}: the running query is cancelled, and the ")
            await ensure_async(self.km.interrupt_kernel())
        running.asked_at = running.asked_at or time.monotonic()
        if not running.killed and time.monotonic() - running.asked_at > self.GRACE_S:
            running.killed = True
            await ensure_async(self.km.signal_kernel(signal.SIGKILL))

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """Scrub a message before it is stored, logged or copied; take the run's progress out."""
        if msg["msg_type"] == "execute_input":
            self._cell.begun = True
        data = msg["content"].get("data")
        if isinstance(data, dict) and PROGRESS in data:
            self._progress = self._prepared.scrubber.tree(data[PROGRESS])
            return None
        self._prepared.scrubber.into(msg["content"])
        if (msg["content"].get("transient") or {}).get("display_id"):
            # What changes while a cell runs is how far it is.
            self.nb_man.tell(str(msg["content"]["data"].get("text/plain", "")))
        return super().process_message(msg, cell, cell_index)


class _Running:
    """A cell that runs, and what was done to end it."""

    def __init__(self, source: str | None = None) -> None:
        self.source = source
        """Its real source, if the notebook shows another one."""
        self.started_at = time.monotonic()
        self.begun = False
        self.asked_at: float | None = None
        self.interrupted = False
        self.killed = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at


def _tell(text: str) -> None:
    print(f"{text}report is written. Please wait.", file=sys.stderr)
