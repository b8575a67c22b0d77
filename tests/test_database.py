"""Database URLs: what each form leads to, and what is shown of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from runbook.database import in_database, is_reference, resolve
from runbook.errors import UsageError

URL = "postgresql://app:geheim@db.example:5433/first?sslmode=require"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@given(NAMES)
def test_another_database_of_the_server_is_named_behind_a_slash(name: str) -> None:
    reference = in_database("env:APP", name)
    assert is_reference(reference) and reference.startswith("env:APP/")
    target = resolve(reference, {"APP": URL})
    parts = conninfo_to_dict(target.conninfo)
    assert parts["dbname"] == name
    assert (parts["host"], parts["port"], parts["password"]) == ("db.example", "5433", "geheim")
    assert target.reference == reference and "geheim" not in target.display


@given(NAMES)
def test_so_is_one_of_a_plain_url(name: str) -> None:
    target = resolve(in_database("postgresql://app@db.example/first?sslmode=require", name), {})
    parts = conninfo_to_dict(target.conninfo)
    assert (parts["dbname"], parts["sslmode"]) == (name, "require")


def test_the_database_that_a_reference_names_counts_last() -> None:
    assert in_database("env:APP/one", "two") == "env:APP/two"
    assert in_database("embedded:demo", "two") == "embedded:demo/two"


@pytest.mark.parametrize("reference", ["env:", "env:A-B", "env:A/", "env:/x", "env:A B/x"])
def test_what_is_no_reference_is_refused_and_not_repeated(reference: str) -> None:
    assert not is_reference(reference)
    with pytest.raises(UsageError) as error:
        resolve(reference, {"A": URL})
    assert "env:NAME" in error.value.remedy
