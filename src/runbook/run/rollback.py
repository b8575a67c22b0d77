"""Rolling back, and saying what failed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from runbook.errors import RefusedError, RolledBack, RunbookError


@contextmanager
def rolling_back(connection: psycopg.Connection[Any], staying: str = "") -> Iterator[None]:
    """Roll the transaction back whatever goes wrong in it.

    Errors of the server and interrupts become `RolledBack`; `staying` is what the message must say
    of changes that were committed before.
    """
    try:
        yield
    except RunbookError:
        _roll_back(connection)
        raise
    except (psycopg.Error, KeyboardInterrupt) as error:
        _roll_back(connection)
        raise RolledBack(
            what_failed(error),
            f"The transaction was rolled back: the database is as it was.{staying}",
        ) from error
    except BaseException:
        _roll_back(connection)
        raise


def committed_before(done: Sequence[str]) -> str:
    """Return what a failure's remedy must say of what was committed before, by its titles."""
    return f" Committed before, and staying: {'; '.join(done)}." if done else ""


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    """Roll back; a server that is gone has done so by itself."""
    if not connection.closed:
        try:
            connection.rollback()
        except psycopg.OperationalError:
            connection.close()


def what_failed(error: BaseException) -> str:
    """Return what an error was, in a sentence.

    The detail of a violated constraint holds a row's values, which belong in no report: it is left
    out, and constraint and column are named.
    """
    if not isinstance(error, psycopg.Error):
        return "The run was interrupted."
    if error.sqlstate is None or isinstance(error, psycopg.errors.AdminShutdown):
        return "The connection to the server was lost."
    detail = " ".join((error.diag.message_detail or "").split())
    detail = f" {detail}" if detail else ""
    if error.sqlstate.startswith("23"):
        named = {"constraint": error.diag.constraint_name, "column": error.diag.column_name}
        what = ", ".join(f"{kind} {name!r}" for kind, name in named.items() if name)
        detail = f" ({what})" if what else ""
    return f"A statement failed with {error.sqlstate}: {error.diag.message_primary}.{detail}"


def nothing_else(error: RunbookError, staying: str) -> RunbookError:
    """Return a refusal, or what is true where something was committed before already."""
    if not staying or not isinstance(error, RefusedError):
        return error
    remedy = error.remedy.replace("Nothing was changed", "Nothing else was changed")
    return RolledBack(error.message, f"{remedy}{staying}")
