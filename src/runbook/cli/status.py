"""`runbook status`: where a migration is, who is in its way, how long still, and what to do.

It asks nothing that waits for the table's lock: it answers while a run holds that, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from runbook.catalog import read_server, snapshot
from runbook.catalog.ledger import (
    is_hidden,
    read_applied,
    read_recorded,
    read_unfinished,
)
from runbook.cli.terminal import say, say_json
from runbook.database import connect, resolve
from runbook.errors import RefusedError
from runbook.facts import LedgerEntry, Recorded, Unfinished
from runbook.numbers import duration, share
from runbook.plan import Plan
from runbook.plan.applied import why_unproved
from runbook.run.holders import AtWork, at_work
from runbook.run.online import index_progress, left_to_drop
from runbook.spec import Spec, load_spec
from runbook.trust.ledger import ledger_writers, may_write, require_own_ledger
from runbook.vocabulary import Phase, Statement

_NAME_WIDTH = 14

APPLIED, AT_WORK, STOPPED = "applied", "at work", "stopped"
NOT_BEGUN, NOT_THERE = "not begun", "not there"


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of a migration on a database."""

    database: str
    table: str
    is_there: bool
    """Whether the table that is to be migrated is there."""
    applied: LedgerEntry | None
    has_view: bool
    """Whether the applied run's view under the old name is still there."""
    taken_back: Recorded | None
    """The newest run, if it was taken back."""
    unfinished: Unfinished | None
    at_work: AtWork | None
    index: str
    """What the server says of the index that is being built, or ''."""
    unproved: str
    """Why what is said of runs is no more than the ledger's word, in a few words, or ''."""

    @property
    def state(self) -> str:
        """The state in a word or two."""
        if self.at_work:
            return AT_WORK
        if self.unfinished:
            return STOPPED
        if self.applied:
            return APPLIED
        return NOT_BEGUN if self.is_there else NOT_THERE

    @property
    def next(self) -> str:
        """What to do, in a sentence."""
        if self.at_work and self.at_work.blockers:
            return "It goes on by itself once they are done; ending their sessions is up to you."
        return {
            AT_WORK: "Wait, or interrupt it where it runs: online it can be resumed.",
            STOPPED: "`runbook migrate` resumes it, `runbook rollback` takes it back.",
            APPLIED: "`runbook contract` removes the view under the old name, once nobody uses it; "
            "`runbook rollback` takes the run back."
            if self.has_view
            else "`runbook verify` asks its checks again, `runbook rollback` takes the run back.",
            NOT_BEGUN: "`runbook review` shows what would happen.",
            NOT_THERE: "Check that the URL names the right database, and the spec its schema.",
        }[self.state]


def show_status(options: dict[str, Any]) -> None:
    """Print it. Raises `RefusedError` where the database does not answer, or not to this role."""
    spec = load_spec(options["spec"])
    target = resolve(options["database_url"])
    with connect(target, application="runbook status") as connection:
        try:
            status = _read(connection, spec, options["ledger_schema"])
        except psycopg.Error as error:
            raise RefusedError(
                f"The server answered with error {error.sqlstate}: {error.diag.message_primary}.",
                "Nothing was changed. Look at the server, then ask again.",
            ) from error
    as_json = options["as_json"]
    if as_json:
        say_json(_as_json(spec, status))
    say(f"{spec.name}: {status.state}", err=as_json, after=f" ({target.display})", bold=True)
    for name, text in _lines(status):
        say(f"  {name:<{_NAME_WIDTH}}{text}", err=as_json)


def _read(connection: psycopg.Connection[Any], spec: Spec, ledger_schema: str) -> Status:
    """Read everything as of one moment."""
    server = read_server(connection)
    if is_hidden(connection, ledger_schema):
        raise RefusedError(
            f"Role {server.user} may not read the ledger in schema {ledger_schema}.",
            "Ask as the role that migrates, or grant USAGE on the schema and SELECT on its tables.",
        )
    require_own_ledger(connection, ledger_schema)
    with snapshot(connection):
        unfinished = read_unfinished(connection, ledger_schema, spec)
        applied = read_applied(connection, ledger_schema, spec)
        recorded = read_recorded(connection, ledger_schema, spec)
        there = connection.execute(_IS_THERE, [spec.schema_, spec.table]).fetchone()
        left = _left_for_later(recorded) if applied and recorded else ()
        building = (
            index_progress(connection, table_oid=unfinished.table_oid) if unfinished else None
        )
        return Status(
            database=server.name,
            table=f"{spec.schema_}.{spec.table}",
            is_there=there is not None,
            applied=applied,
            has_view=bool(left_to_drop(connection, left)),
            taken_back=recorded if recorded and recorded.taken_back_at else None,
            unfinished=unfinished,
            at_work=at_work(
                connection, spec.schema_, spec.table, locking=_locking(unfinished, there)
            ),
            index=building[0] if building else "",
            unproved=_unproved(
                unfinished,
                recorded.entry if recorded else None,
                ledger_writers(connection, ledger_schema),
            ),
        )


def _unproved(
    unfinished: Unfinished | None, entry: LedgerEntry | None, writers: Sequence[str]
) -> str:
    """Return why what is said of the newest run is no more than the ledger's word."""
    if entry and not unfinished:
        return why_unproved(entry, writers)
    return may_write(writers) if unfinished and writers else ""


def _left_for_later(recorded: Recorded) -> tuple[Statement, ...]:
    """Return what a run says that it left to be removed; they are looked for, and never run."""
    try:
        return Plan.of(recorded.plan).of_phase(Phase.CONTRACT)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def _locking(unfinished: Unfinished | None, table: tuple[int] | None) -> int | None:
    """Return the OID of the table where a run, if one is at work, is about to lock it."""
    if unfinished is None:
        return table[0] if table else None
    return unfinished.table_oid if unfinished.phase == Phase.CUTOVER else None


def _lines(status: Status) -> Iterator[tuple[str, str]]:
    """Yield what there is to say, a name and a text each."""
    if status.unproved:
        yield "unproved", f"what follows is the ledger's word, and {status.unproved}"
    if status.at_work:
        yield "at work", status.at_work.who
        if not status.unfinished:
            yield "so far", "it has committed nothing"
    if status.unfinished:
        yield from _unfinished(status.unfinished)
        yield from _restored(status.unfinished)
        if status.index:
            yield "index", status.index
    elif status.applied:
        entry = status.applied
        yield "run", entry.run_id
        yield "applied", f"{entry.applied_at} by {entry.applied_by}, mode {entry.mode}"
        yield from _restored(entry)
    elif status.taken_back:
        back = status.taken_back
        yield "run", back.entry.run_id
        yield "applied", f"{back.entry.applied_at} by {back.entry.applied_by}"
        yield "taken back", f"{back.taken_back_at} by {back.taken_back_by}"
    for blocker in status.at_work.blockers if status.at_work else ():
        yield "waits for", str(blocker)
    if status.state == NOT_THERE:
        yield "table", f"{status.table} is not there in database {status.database!r}"
    yield "next", status.next


def _restored(run: Unfinished | LedgerEntry) -> Iterator[tuple[str, str]]:
    """Yield how the run is known where its table has another OID."""
    if run.is_restored:
        yield "restored", "the database was restored from a dump since: the table is known by name"


def _unfinished(run: Unfinished) -> Iterator[tuple[str, str]]:
    yield "run", f"{run.run_id} of {run.migration}"
    yield "begun", f"{run.started_at} by {run.started_by}"
    yield "phase", f"{run.phase} (backfill, index, cutover)"
    yield (
        "backfill",
        f"{run.blocks_done:,} of {run.blocks:,} blocks ({share(run.blocks_done, run.blocks)}), "
        f"{run.rows:,} rows updated and proved",
    )
    if run.phase == Phase.BACKFILL and run.left_s is not None:
        yield (
            "left",
            f"about {duration(run.left_s * 1000)} of backfill with one job, then the index",
        )


def _as_json(spec: Spec, status: Status) -> dict[str, Any]:
    """Return what is known as plain data; the plan itself is left out."""
    run, working, back = status.unfinished, status.at_work, status.taken_back
    return {
        "state": status.state,
        "exit_code": 0,
        "migration": spec.name,
        "database": status.database,
        "unfinished": {
            **{name: item for name, item in asdict(run).items() if name != "plan"},
            "blocks": run.blocks,
            "blocks_done": run.blocks_done,
            "left_s": run.left_s,
            "index": status.index,
        }
        if run
        else None,
        "applied": status.applied.content if status.applied else None,
        "taken_back": {
            "run_id": back.entry.run_id,
            "at": back.taken_back_at,
            "by": back.taken_back_by,
        }
        if back
        else None,
        "has_view": status.has_view,
        "unproved": status.unproved,
        "at_work": working.who if working else None,
        "waits_for": [asdict(one) for one in working.blockers] if working else [],
        "next": status.next,
    }


_IS_THERE = """\
SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')"""
