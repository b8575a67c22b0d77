"""Settings that a plan makes for its own transaction."""

import pytest

from runbook.trust.settings import more_memory
from tests.conftest import Database

SHOWN = "SELECT pg_size_bytes(current_setting('maintenance_work_mem')) / 1024"


@pytest.mark.parametrize("before", ["1MB", "2GB"])
def test_indexes_get_as_much_memory_as_the_cache_and_never_less(
    before: str, empty_newest: Database
) -> None:
    buffers = empty_newest.value("SELECT pg_size_bytes(current_setting('shared_buffers')) / 1024")
    with empty_newest.connect() as connection:
        connection.execute(f"SET maintenance_work_mem = '{before}'".encode())
        known = connection.execute(SHOWN.encode()).fetchone()
        assert known is not None
        with connection.transaction():
            connection.execute(more_memory(until_commit=True).encode())
            raised = connection.execute(SHOWN.encode()).fetchone()
            assert raised == (max(known[0], buffers),)
        assert connection.execute(SHOWN.encode()).fetchone() == known
        connection.execute(more_memory(until_commit=False).encode())
        assert connection.execute(SHOWN.encode()).fetchone() == raised
