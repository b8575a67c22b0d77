"""The fleet's file: which databases, in which waves, and when to stop."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from runbook.bounded import TooLarge, read_text
from runbook.errors import UsageError
from runbook.parameters import MigrateParameters
from runbook.secrets import holds_password

_OWN = {"database_url", "spec", "reports", "ledger_schema", "approved_plan", "prisma_dir"}
"""Parameters of a run that the fleet gives itself, or that make no sense for many databases."""

Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Source(BaseModel):
    """Databases, or schemas of one: a single target unless a query or a pattern finds more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(min_length=1)]
    """Where it is: any database URL without a password, as a rule `env:NAME`."""
    name: str = ""
    """What the report calls it; before the names of several, with a slash."""
    databases: str = ""
    """A query whose rows name databases of that server, each a target."""
    schemas: str = ""
    """A LIKE pattern of schemas of that database that hold the table, each a target."""

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, url: str) -> str:
        if holds_password(url):
            # pydantic would repeat what it found; the file's reader does not.
            raise ValueError("holds a password: put the URL into a variable and give env:NAME")
        return url

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.databases and self.schemas:
            raise ValueError("give `databases` or `schemas`, not both")
        return self


class Rollout(BaseModel):
    """How carefully."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary: Annotated[int, Field(ge=1)] | tuple[str, ...] = 1
    """How many targets go first and alone, or their names."""
    growth: Annotated[int, Field(ge=1)] = 10
    """How many times the targets of a wave the next one has."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """No further target is begun once more have failed; after a check that failed, none ever."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a target is tried again whose table was locked, or that another run was at."""
    retry_after_s: Annotated[float, Field(ge=0)] = 10.0
    """How long to wait before that."""


class FleetFile(BaseModel):
    """What a fleet's file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    spec: str = "llamalog"
    ledger_schema: str = "runbook"
    rollout: Rollout = Rollout()
    parameters: Mapping[str, Any] = {}
    """Parameters of each run, as `02_migrate` has them."""
    targets: Annotated[tuple[Source, ...], Field(alias="target", min_length=1)]

    @field_validator("parameters")
    @classmethod
    def _are_parameters(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        known = [name for name in MigrateParameters.model_fields if name not in _OWN]
        for name, item in given.items():
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(known)}")
            field = MigrateParameters.model_fields[name]
            TypeAdapter(field.rebuild_annotation()).validate_python(item)
        return given


def read_fleet(path: str) -> FleetFile:
    """Return what the file at a path says. Raises `UsageError` where it cannot be read, or says
    something that makes no sense."""
    place = Path(path).expanduser()
    try:
        document = tomllib.loads(read_text(place))
    except OSError as error:
        raise UsageError(
            f"The fleet's file {path} cannot be read: {error.strerror}.", "Correct its path."
        ) from None
    except TooLarge as error:
        raise UsageError(f"The fleet's file {path} {error}.", "Correct its path.") from None
    except RecursionError:
        raise UsageError(
            f"The fleet's file {path} is nested too deeply to be read.", "Correct it."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The fleet's file {path} is not valid TOML: {error}.", "Correct that line."
        ) from None
    try:
        fleet = FleetFile.model_validate(document)
    except ValidationError as error:
        raise _wrong(path, error) from None
    if fleet.spec.endswith(".toml"):  # beside the file, wherever the command is given
        fleet = fleet.model_copy(update={"spec": str(place.parent / fleet.spec)})
    return fleet


def _wrong(path: str, error: ValidationError) -> UsageError:
    """Return the first thing that is wrong, without the value where that is a URL."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(
        str(part + 1) if isinstance(part, int) else part
        for part in first["loc"]
        if not str(part).startswith(("function-", "constrained-", "tuple["))
    )
    kinds = {"extra_forbidden": "there is no such field", "missing": "this field is missing"}
    said = kinds.get(first["type"], first["msg"].removeprefix("Value error, "))
    return UsageError(
        f"The fleet's file {path}, {where or 'as a whole'}: {said[:1].lower()}{said[1:]}.",
        "Correct it there; docs/fleet.md shows a file with everything that it may say.",
    )
