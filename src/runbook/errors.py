"""Every error that a person may see, each with the exit code that it ends a command with.

RunbookError
├── UsageError            2  unknown parameter, bad URL
│   └── SpecError         2  a spec that cannot be read or makes no sense
├── RefusedError          3  nothing was changed
│   ├── ConnectionRefused 3  the database could not be reached
│   ├── BlockedError      3  the review found a blocker
│   ├── PlanDiffers       3  the plan is not the one that was approved
│   ├── NotApproved       3  an approval is required, and there is none that counts
│   ├── RunInProgress     3  another run works on the same table
│   └── TableLocked       3  others held the table as long as the run would wait
├── ChecksFailed          4  applied, but a check failed
├── RolledBack            5  failed and rolled back: the database is as it was
├── Stopped               6  online: stopped midway, to be resumed or taken back
└── EmbeddedError         3  the embedded server cannot run here
"""

from enum import StrEnum

from runbook.visible import visible


class Outcome(StrEnum):
    """How a run ended; the word stands in the bundle's name and in its manifest."""

    SUCCEEDED = "succeeded"
    """Done, and every check passed."""
    ALREADY_APPLIED = "already-applied"
    """An earlier run had done it; every check passed again."""
    ERROR = "error"
    """An unexpected error: a bug in the runbook, or a kernel that died."""
    REFUSED = "refused"
    """Refused before anything was changed."""
    CHECK_FAILED = "check-failed"
    """The database was changed (or had been), and a check does not hold."""
    ROLLED_BACK = "rolled-back"
    """Failed midway and rolled back: the database is as it was."""
    STOPPED = "stopped"
    """Online: stopped between two transactions; it can be resumed, or taken back."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends so."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Outcome.SUCCEEDED: 0,
    Outcome.ALREADY_APPLIED: 0,
    Outcome.ERROR: 1,
    Outcome.REFUSED: 3,
    Outcome.CHECK_FAILED: 4,
    Outcome.ROLLED_BACK: 5,
    Outcome.STOPPED: 6,
}


class RunbookError(Exception):
    """Base of all errors meant for people: what is wrong, and what to do next.

    `message` is one sentence that names the object and the value found; `remedy` is one
    sentence on what to do. Neither ever holds a secret.
    """

    exit_code = 1
    outcome = Outcome.ERROR

    def __init__(self, message: str, remedy: str) -> None:
        self.message = visible(message)
        self.remedy = visible(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows instead of a traceback (its documented hook)."""
        return [f"{self.outcome.value.capitalize()}: {self.message}", self.remedy]


class UsageError(RunbookError):
    """The command, a parameter or the URL is wrong; nothing was tried."""

    exit_code = 2
    outcome = Outcome.REFUSED


class SpecError(UsageError):
    """A spec cannot be read or makes no sense.

    `file`, `operation` and `field` say where; `operation` and `field` may be empty.
    """

    def __init__(
        self, message: str, remedy: str, *, file: str, operation: str = "", field: str = ""
    ) -> None:
        super().__init__(message, remedy)
        self.file = file
        self.operation = operation
        self.field = field


class RefusedError(RunbookError):
    """Refused before anything was changed."""

    exit_code = 3
    outcome = Outcome.REFUSED


class ConnectionRefused(RefusedError):
    """The database could not be reached, or would not let us in."""


class EmbeddedError(RefusedError):
    """The embedded server cannot be installed, started or reached."""


class BlockedError(RefusedError):
    """The review found at least one blocker; the first one is the message."""


class PlanDiffers(RefusedError):
    """The plan to be run is not the approved one."""

    def __init__(self, *, approved: str, actual: str, differences: tuple[str, ...] = ()) -> None:
        shown = "; ".join(differences[:3])
        more = f"; and {len(differences) - 3:,} more" if len(differences) > 3 else ""
        super().__init__(
            f"The approved plan is {approved}, but this database and spec give plan {actual}"
            + (f": {shown}{more}." if differences else "."),
            "Nothing was changed. Run the review again, compare it with the one that was "
            "approved, and approve the new hash if the difference is meant.",
        )
        self.approved = approved
        self.actual = actual
        self.differences = differences


class NotApproved(RefusedError):
    """An approval is required, and the archive holds none of this plan that counts."""

    def __init__(self, *, plan: str, reports: str, found: str) -> None:
        super().__init__(
            f"Plan {plan} is not approved: {found} in {reports}.",
            "Nothing was changed. Have somebody read its review, then: runbook approve BUNDLE --by "
            "NAME",
        )
        self.plan = plan


class RunInProgress(RefusedError):
    """Another run holds the advisory lock of the table."""


class TableLocked(RefusedError):
    """Others held the table for as long as the run would wait; it is to be tried again later."""

    def __init__(self, *, table: str, tries: int, each: str, who: str) -> None:
        super().__init__(
            f"Table {table} could not be locked in {tries:,} tries {each}: {who}.",
            "Nothing was changed. Run again when they are done, or raise --max-wait-ms.",
        )
        self.table = table


class ChecksFailed(RunbookError):
    """The migration is applied, but at least one check does not hold."""

    exit_code = 4
    outcome = Outcome.CHECK_FAILED


class RolledBack(RunbookError):
    """A statement or the proof failed; the transaction was rolled back."""

    exit_code = 5
    outcome = Outcome.ROLLED_BACK


class Stopped(RunbookError):
    """An online run stopped midway: what it committed stays, and it can be resumed."""

    exit_code = 6
    outcome = Outcome.STOPPED


class CannotResume(Stopped):
    """An online run that cannot go on; what is left of it can be taken back."""
