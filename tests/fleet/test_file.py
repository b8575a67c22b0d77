"""The fleet's file, its targets and its waves: what is accepted, and what is said otherwise."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import UsageError
from runbook.fleet.file import Rollout, read_fleet
from runbook.fleet.rollout import waves
from runbook.fleet.targets import Target, find_targets

ONE = 'name = "f"\n[[target]]\nurl = "env:A"\n'

WRONG = {
    "no file": (None, "cannot be read"),
    "no TOML": ("name = ", "not valid TOML"),
    "no target": ('name = "f"\ntarget = []', "target"),
    "no name": ('[[target]]\nurl = "env:A"', "name: this field is missing"),
    "a name that is a path": (ONE.replace('"f"', '"../f"'), "name"),
    "an unknown field": (f"{ONE}databse = 'x'", "target.1.databse: there is no such field"),
    "both kinds": (f"{ONE}databases = 'SELECT 1'\nschemas = 'x'", "not both"),
    "a password": (ONE.replace("env:A", "postgresql://u:geheim@h/d"), "holds a password"),
    "an unknown parameter": (f"{ONE}[parameters]\nmod = 'auto'", "'mod' is none of"),
    "a fleet's own parameter": (f"{ONE}[parameters]\nreports = 'x'", "'reports' is none of"),
    "a parameter's type": (f"{ONE}[parameters]\njobs = 'many'", "parameters"),
    "no canary": (f"{ONE}[rollout]\ncanary = 0", "rollout.canary"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_a_sentence(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "FLEET.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(UsageError) as error:
        read_fleet(str(path))
    assert said in error.value.message and "geheim" not in str(error.value)
    assert error.value.remedy


def test_a_spec_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "FLEET.toml"
    path.write_text(ONE.replace("[[", 'spec = "own.toml"\n[['), "utf-8")
    assert read_fleet(str(path)).spec == str(tmp_path / "own.toml")


def test_two_targets_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "FLEET.toml"
    path.write_text(f'{ONE}[[target]]\nurl = "env:A"\n', "utf-8")
    with pytest.raises(UsageError, match="more than one target that is called 'A'"):
        find_targets(read_fleet(str(path)))


def targets(count: int) -> list[Target]:
    return [Target(name=f"t{n}", database_url="env:A", spec="llamalog") for n in range(count)]


@given(count=st.integers(1, 300), canary=st.integers(1, 5), growth=st.integers(1, 12))
def test_every_target_is_in_one_wave_and_waves_grow_as_they_should(
    count: int, canary: int, growth: int
) -> None:
    all_ = targets(count)
    found = waves(all_, Rollout(canary=canary, growth=growth))
    assert [one for wave in found for one in wave] == all_
    sizes = [len(wave) for wave in found]
    assert sizes[0] == min(canary, count)
    assert all(
        size == min(sizes[0] * growth**n, count - sum(sizes[:n])) for n, size in enumerate(sizes)
    )


def test_a_named_canary_goes_first_and_must_be_a_target() -> None:
    all_ = targets(5)
    found = waves(all_, Rollout(canary=("t3",), growth=10))
    assert [one.name for one in found[0]] == ["t3"]
    assert [one.name for one in found[1]] == ["t0", "t1", "t2", "t4"]
    with pytest.raises(UsageError, match="'t9' is no target"):
        waves(all_, Rollout(canary=("t9",)))
