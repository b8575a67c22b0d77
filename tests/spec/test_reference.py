"""The reference of a spec: a name or a path, and behind an @ the schema that is meant."""

from pathlib import Path

import pytest

from runbook.errors import SpecError
from runbook.spec import load_spec, split_reference


def test_a_schema_behind_an_at_takes_the_place_of_the_specs_own() -> None:
    own, other = load_spec("llamalog"), load_spec("llamalog@tenant_7")
    assert (own.schema_, other.schema_) == ("public", "tenant_7")
    assert own.model_copy(update={"schema_": "tenant_7"}) == other
    assert own.sha256 != other.sha256


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("llamalog", ("llamalog", "")),
        ("a@b/own.toml", ("a@b/own.toml", "")),
        ("a@b/own.toml@x", ("a@b/own.toml", "x")),
        ("own.toml@Tenant 1", ("own.toml", "Tenant 1")),
        ("own.toml@a@b.toml@c", ("own.toml@a@b.toml", "c")),
    ],
)
def test_only_what_stands_behind_a_spec_is_a_schema(reference: str, parts: tuple[str, str]) -> None:
    assert split_reference(reference) == parts


def test_a_file_is_read_for_another_schema(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\nschema = "app"\ntable = "a"\n[[operation]]\nop = "rename_table"\nto = "b"\n',
        "utf-8",
    )
    assert load_spec(str(path)).schema_ == "app"
    assert load_spec(f"{path}@tenant").schema_ == "tenant"
    with pytest.raises(SpecError, match="schema"):
        load_spec(f"{path}@{'x' * 64}")
    with pytest.raises(SpecError, match="no spec named 'nothing@tenant'"):
        load_spec("nothing@tenant")
