"""The application beside the runbook: `bench.writers` in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AFTERWARDS_S = 1.0
"""How long it writes on after the runbook has ended, under the table's old name."""


class ApplicationFailed(Exception):
    """The application's process ended with an error, or never began."""


@contextmanager
def writing(conninfo: str, rate: float) -> Iterator[dict[str, Any]]:
    """Have an application write `rate` transactions a second; 0 is none.

    Yields what is filled, at the end, with what came of its writes.
    """
    told: dict[str, Any] = {}
    if not rate:
        yield told
        return
    command = [sys.executable, "-m", "bench.writers", conninfo, f"--rate={rate:g}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise ApplicationFailed("The application could not begin to write.")
            yield told
            time.sleep(AFTERWARDS_S)
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ApplicationFailed(f"The application ended with exit code {process.returncode}.")
    told.update(json.loads(output))
