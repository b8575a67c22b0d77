"""The parameters of the notebooks, typed: the same for the command line and the parameters cell."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from runbook.errors import UsageError
from runbook.plan import Options
from runbook.run.online import Limits

Milliseconds = Annotated[StrictInt, Field(ge=1, le=24 * 3_600_000)]
Limit = Annotated[StrictInt, Field(ge=0)]
"""0 is no limit."""


class Parameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reports: StrictStr

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return validated parameters. Raises `UsageError` that names the first wrong one."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                raise UsageError(
                    f"There is no parameter {name!r}.",
                    f"The parameters are {', '.join(cls.model_fields)}.",
                ) from None
            # The value may be a URL with a password in it, so that one is not repeated.
            # So does what is missing: it is found in all that was given.
            secret = name == "database_url" or first["type"] == "missing"
            found = "" if secret else f", found {first.get('input')!r:.80}"
            raise UsageError(
                f"Parameter {name!r}: {first['msg'][0].lower()}{first['msg'][1:]}{found}.",
                "Correct it; with papermill, -r passes a value as text, -p guesses its type.",
            ) from None


class TargetParameters(Parameters):
    """What every notebook of one database takes."""

    database_url: StrictStr
    spec: StrictStr
    ledger_schema: Annotated[StrictStr, Field(min_length=1, max_length=63)]
    trust_owner_code: StrictBool


class PlanParameters(TargetParameters):
    """What makes a plan."""

    mode: Literal["auto", "atomic", "online"]
    lock_timeout_ms: Milliseconds
    lock_budget_ms: Milliseconds
    statement_timeout_ms: Limit
    old_name_view: StrictBool
    allow_models: StrictBool
    proof: Literal["spec", "hash", "sha256"]

    @property
    def options(self) -> Options:
        """The plan's options."""
        return Options(
            mode=self.mode,
            lock_timeout_ms=self.lock_timeout_ms,
            lock_budget_ms=self.lock_budget_ms,
            statement_timeout_ms=self.statement_timeout_ms,
            old_name_view=self.old_name_view,
            trust_owner_code=self.trust_owner_code,
            proof=self.proof,
        )


class ReviewParameters(PlanParameters):
    """Parameters of `01_review.ipynb`."""


class RehearseParameters(PlanParameters):
    """Parameters of `07_rehearse.ipynb`."""

    scratch: Literal["database", "schema", "embedded"]
    rows: Limit
    max_wait_ms: Milliseconds
    jobs: Annotated[StrictInt, Field(ge=1, le=64)]

    @property
    def limits(self) -> Limits:
        """The pace of an online run on the copy."""
        return Limits(jobs=self.jobs, max_wait_ms=self.max_wait_ms)


class MigrateParameters(PlanParameters):
    """Parameters of `02_migrate.ipynb`."""

    approved_plan: StrictStr
    require_approval: StrictBool
    approver_keys: StrictStr
    prisma_dir: StrictStr
    strict: StrictBool
    max_wait_ms: Milliseconds
    jobs: Annotated[StrictInt, Field(ge=1, le=64)]
    batch_ms: Annotated[StrictInt, Field(ge=1, le=10_000)]
    max_lag_ms: Limit
    max_unarchived: Limit
    max_active: Limit

    @property
    def limits(self) -> Limits:
        """The pace of an online run."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})


class WaitingParameters(TargetParameters):
    """What a change in one short transaction, by a recorded plan, takes."""

    approved_plan: StrictStr
    trusted_keys: StrictStr

    lock_timeout_ms: Milliseconds
    max_wait_ms: Milliseconds


class RollbackParameters(WaitingParameters):
    """Parameters of `04_rollback.ipynb`."""

    lock_budget_ms: Milliseconds
    discard_categories: StrictBool


class ContractParameters(WaitingParameters):
    """Parameters of `06_contract.ipynb`."""

    watch_s: Annotated[StrictInt, Field(ge=0, le=3600)]
    force: StrictBool


class VerifyParameters(TargetParameters):
    """Parameters of `03_verify.ipynb`."""

    allow_models: StrictBool
    strict: StrictBool


class FleetParameters(Parameters):
    """Parameters of `05_fleet.ipynb`."""

    fleet: StrictStr
    approved_plan: StrictStr
    review_only: StrictBool
    resume: StrictBool
    concurrency: Annotated[StrictInt, Field(ge=1, le=1024)]
    workers: Annotated[StrictInt, Field(ge=1, le=256)]
    scheduler: StrictStr
