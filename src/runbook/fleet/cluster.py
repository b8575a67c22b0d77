"""Dask's workers: those of a scheduler that is there, or some on this machine."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runbook.database import CONNECT_TIMEOUT_S
from runbook.errors import UsageError

Client = Any
"""A client of Dask, which has no types."""


@contextmanager
def workers(scheduler: str, count: int, threads: int) -> Iterator[Client]:
    """Yield a client: of the scheduler at a URL, or of `count` processes with so many threads each,
    which end with it and with this process.

    Processes of this machine take work by TLS, with certificates made for them: whoever may speak
    to a worker runs code in it. A worker that dies is replaced, and its tasks run again, up to
    three times each (`distributed.scheduler.allowed-failures`). Raises `UsageError` where Dask is
    not installed, or no scheduler answers at the URL.
    """
    try:
        from distributed import Client as Connected
        from distributed import LocalCluster, Security
    except ImportError:
        raise UsageError(
            "A fleet needs Dask's package distributed, which is not installed.",
            "Install it with: pip install 'migration-runbook[fleet]'",
        ) from None
    connected: Any = Connected
    if scheduler:
        try:
            client = connected(scheduler, set_as_default=False, timeout=CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"No Dask scheduler answers at {scheduler}: {type(error).__name__}.",
                "Nothing was begun. Start one (dask scheduler), or leave out --scheduler.",
            ) from None
        with client:
            yield client
        return
    local: Any = LocalCluster
    security: Any = Security
    with (
        local(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            dashboard_address=None,
            security=security.temporary(),
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        connected(cluster, set_as_default=False) as client,
    ):
        yield client


def capacity(client: Client) -> int:
    """Return how many tasks the workers can run at once."""
    return sum(client.nthreads().values())


class Window:
    """Tasks that are under way, never more than so many, and what becomes of them."""

    def __init__(self, client: Client, size: int) -> None:
        from distributed import as_completed

        completed: Any = as_completed
        self._client = client
        self._size = size
        self._done = completed(loop=client.loop, raise_errors=False)
        self._under_way: dict[Any, Any] = {}

    @property
    def has_room(self) -> bool:
        """Whether another task may be begun."""
        return len(self._under_way) < self._size

    @property
    def under_way(self) -> list[Any]:
        """The tasks that were begun and are not done."""
        return list(self._under_way.values())

    def begin(self, function: Callable[..., Any], task: Any, *more: Any, key: str) -> None:
        """Begin a task; `key` is what Dask calls it."""
        future = self._client.submit(function, task, *more, pure=False, key=key)
        self._under_way[future] = task
        self._done.add(future)

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def next(self) -> tuple[Any, Any]:
        """Wait for one; return the task, and its result or the exception that Dask has for it."""
        future = next(self._done)
        return self._taken(future)

    def rest(self, timeout_s: float) -> Iterable[tuple[Any, Any]]:
        """Wait so long for all; return those that are done."""
        from distributed import wait

        waiting: Any = wait
        with suppress(Exception):
            waiting(list(self._under_way), timeout=timeout_s)
        return [self._taken(one) for one in list(self._under_way) if one.done()]

    def _taken(self, future: Any) -> tuple[Any, Any]:
        task = self._under_way.pop(future)
        is_good = future.status == "finished"
        found = future.result() if is_good else future.exception() or RuntimeError("cancelled")
        future.release()
        return task, found


def each(
    client: Client, function: Callable[..., Any], tasks: Iterable[Any], *more: Any, key: str
) -> Iterator[tuple[Any, Any]]:
    """Yield each task with its result, or the exception that Dask has for it, in the order in which
    they are done."""
    window = Window(client, max(1, 2 * capacity(client)))
    for n, task in enumerate(tasks):
        if not window.has_room:
            yield window.next()
        window.begin(function, task, *more, key=f"{key}-{n}")
    while window:
        yield window.next()
