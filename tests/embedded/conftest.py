"""Servers and other processes for the tests of the embedded server, cleaned up after each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runbook.embedded import Server, postmaster
from tests.embedded.other_processes import Holder


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers without fsync in the test's folder; they are destroyed afterwards."""
    with ExitStack() as stack:

        def make(directory: Path | None = None, **options: object) -> Server:
            options.setdefault("settings", {"fsync": "off"})
            server = Server(directory or tmp_path / "data", **options)  # type: ignore[arg-type]
            stack.callback(server.destroy)
            return server

        yield make


@pytest.fixture(scope="session")
def made_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was made once, of a server that is stopped."""
    server = Server(tmp_path_factory.mktemp("made") / "data", settings={"fsync": "off"})
    with server.lease():
        return server.directory


@pytest.fixture
def made_server(made_directory: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers on the one data directory that was made, lent to the test's folder."""
    directory = tmp_path / "data"
    made_directory.rename(directory)

    def make(**options: object) -> Server:
        return Server(directory, **{"settings": {"fsync": "off"}, **options})  # type: ignore[arg-type]

    yield make
    postmaster.stop(directory)
    directory.rename(made_directory)


@pytest.fixture
def make_holder() -> Iterator[Callable[[Path], Holder]]:
    """Start other processes that hold leases; they are killed afterwards."""
    with ExitStack() as stack:

        def make(directory: Path) -> Holder:
            holder = Holder(directory)
            stack.callback(holder.process.kill)
            return holder

        yield make
