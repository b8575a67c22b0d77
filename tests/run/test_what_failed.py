"""What is said of an error: never a row's values."""

import psycopg
import pytest

from runbook.run.rollback import what_failed
from tests.conftest import Database


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("secret text CHECK (secret = '')", "(constraint 't_secret_check')"),
        ("secret text, other text NOT NULL", "(column 'other')"),
    ],
)
def test_a_violated_constraint_is_named_without_the_row(
    column: str, named: str, empty_newest: Database
) -> None:
    empty_newest.execute(f"CREATE TABLE t ({column})")
    with pytest.raises(psycopg.IntegrityError) as caught:
        empty_newest.execute("INSERT INTO t (secret) VALUES ('hunter2')")
    assert "hunter2" in (caught.value.diag.message_detail or "")
    said = what_failed(caught.value)
    assert "hunter2" not in said and said.endswith(named)
