"""The operations that a spec is made of, one file each."""

from typing import Annotated

from pydantic import Field

from runbook.operations.classify import Classify
from runbook.operations.create_enum import CreateEnum
from runbook.operations.create_index import CreateIndex
from runbook.operations.rename_table import RenameTable

AnyOperation = Annotated[
    RenameTable | CreateEnum | Classify | CreateIndex, Field(discriminator="op")
]
