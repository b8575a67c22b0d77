"""The spec: one migration as frozen, validated data."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from runbook.operations import AnyOperation
from runbook.operations.base import Name
from runbook.operations.classify import Classify
from runbook.operations.create_enum import CreateEnum
from runbook.operations.create_index import CreateIndex
from runbook.operations.rename_table import RenameTable

Criterion = Literal[
    "model", "table", "enum", "relationships", "complete", "model-drift",
    "distribution", "rules", "column", "index", "old-names", "same-table", "foreign-keys",
]  # fmt: skip
"""The checks that `criteria` may give a name of the user's own."""


def _check_migration_name(name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ValueError("may hold only ASCII letters, digits, '-' and '_': it names files")
    return name


class Models(BaseModel):
    """The application's SQLAlchemy models; a check imports the module, so it runs its code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    model: str
    enum: str | None = None
    relationship: str | None = None
    related: tuple[str, ...] = ()


class Spec(BaseModel):
    """One migration: a table, and the operations on it in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_check_migration_name)]
    title: str = ""
    schema_: Name = Field("public", alias="schema")
    table: Name
    operations: Annotated[tuple[AnyOperation, ...], Field(alias="operation", min_length=1)]
    criteria: Mapping[Criterion, str] = {}
    models: Models | None = None
    proof: Literal["hash", "sha256"] = "hash"
    """How the data is proved: by hashes of 128 bits, or cryptographically."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for kind in (RenameTable, Classify):
            if sum(isinstance(operation, kind) for operation in self.operations) > 1:
                op = kind.model_fields["op"].annotation
                raise ValueError(f"a migration has at most one {op.__args__[0]}")  # type: ignore[union-attr]
        if self.table_after == self.table and self._rename:
            raise ValueError(f"rename_table renames {self.table!r} to itself")
        self._check_names()
        self._check_labels()
        return self

    def _check_names(self) -> None:
        """Refuse a name that two operations give: a table has a type of its own name, too."""
        relations = [
            op.to if isinstance(op, RenameTable) else op.name
            for op in self.operations
            if isinstance(op, RenameTable | CreateIndex)
        ]
        types = [
            op.to if isinstance(op, RenameTable) else op.name
            for op in self.operations
            if isinstance(op, RenameTable | CreateEnum)
        ]
        for given in (relations, types):
            twice = next((name for name in given if given.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two operations give the name {twice!r}")

    def _check_labels(self) -> None:
        """Refuse rules whose label the spec's own enum lacks."""
        enums = {op.name: op.labels for op in self.operations if isinstance(op, CreateEnum)}
        if self.classify and self.classify.type in enums:
            known = enums[self.classify.type]
            for label in self.classify.labels:
                if label not in known:
                    raise ValueError(
                        f"operation classify, rule and otherwise: label {label!r} is not in enum "
                        f"{self.classify.type!r}, whose labels are {', '.join(known)}"
                    )

    @property
    def _rename(self) -> RenameTable | None:
        return next((op for op in self.operations if isinstance(op, RenameTable)), None)

    @property
    def classify(self) -> Classify | None:
        """The spec's classify operation, if it has one."""
        return next((op for op in self.operations if isinstance(op, Classify)), None)

    @property
    def table_after(self) -> str:
        """The table's name once the migration is applied."""
        return self._rename.to if self._rename else self.table

    @property
    def heading(self) -> str:
        """What people call the migration."""
        return self.title or self.name

    @property
    def sha256(self) -> str:
        """The SHA-256 of what the spec says, whatever its layout and comments."""
        content = json.dumps(
            self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, ensure_ascii=False
        )
        return hashlib.sha256(content.encode()).hexdigest()
