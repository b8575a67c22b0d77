"""Who is at work on the table, and whose transaction is in the way of a lock."""

from collections.abc import Iterator

from runbook.facts import Activity, Surroundings, Table
from runbook.operations.base import blocker, warning
from runbook.vocabulary import Finding

OLD_S = 60.0
"""From this age on a transaction counts as old, in seconds."""

IDLE_S = 10.0
"""From this time on an idle transaction counts as forgotten, in seconds."""


def activity_findings(table: Table, around: Surroundings) -> Iterator[Finding]:
    """Yield what a lock on the table would wait for."""
    object_ = f"{table.schema}.{table.name}"
    for one in around.activity:
        if one.idle_s is not None and one.idle_s >= IDLE_S:
            yield _idle(one, one.idle_s, object_)
        elif not one.is_old_vacuum and (one.transaction_s or 0.0) >= OLD_S:
            yield warning(
                "old-transaction",
                str(one),
                f"The transaction of {one} has lasted for {one.transaction_s:,.0f} s"
                f"{_holding(one, object_)}.",
                "Wait until it ends, or end it (pg_terminate_backend). The run itself waits for "
                "--max-wait-ms and then gives up, with nothing changed.",
            )
    for prepared in around.prepared:
        yield (blocker if prepared.on_table else warning)(
            "prepared-transaction",
            prepared.gid,
            f"Prepared transaction {prepared.gid!r} of {prepared.owner} is {prepared.age_s:,.0f} s "
            "old" + (f" and holds a lock on {object_}." if prepared.on_table else "."),
            "Ask who prepared it, then COMMIT PREPARED or ROLLBACK PREPARED.",
        )
    yield from _freeze(around, object_)


def _idle(one: Activity, idle_s: float, object_: str) -> Finding:
    return warning(
        "idle-in-transaction",
        str(one),
        f"The transaction of {one} has waited for its client for {idle_s:,.0f} s"
        f"{_holding(one, object_)}.",
        "Find the client, or end it (pg_terminate_backend); an "
        "idle_in_transaction_session_timeout keeps it from coming back.",
    )


def _holding(one: Activity, object_: str) -> str:
    return f", and holds {', '.join(one.locks)} on {object_}" if one.locks else ""


def _freeze(around: Surroundings, object_: str) -> Iterator[Finding]:
    """Yield whether a vacuum that gives way to nobody is at work, or due."""
    ages, at_work = around.ages, [one for one in around.activity if one.is_old_vacuum and one.locks]
    if at_work or ages.table >= ages.freeze_max:
        yield warning(
            "freeze-due",
            object_,
            f"{object_} is {ages.table:,} transactions old, and from {ages.freeze_max:,} on "
            "(autovacuum_freeze_max_age) it is vacuumed against wraparound"
            + (f": {at_work[0]} is at it now." if at_work else "."),
            "Run VACUUM (FREEZE) on it first, or wait until autovacuum has.",
        )
