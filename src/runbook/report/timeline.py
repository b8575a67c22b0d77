"""The course of an online run for the reader: phases, tries for locks, batches over time."""

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.numbers import duration, share
from runbook.report import html
from runbook.run.online import Journal, LockTry

SHOWN_TRIES = 25
"""How many tries for a lock are shown one by one; all are in the manifest."""


def timeline(journal: Journal) -> Iterator[html.Fragment | Any]:
    """Yield what an online run did, and whom it held up, as far as it came."""
    from runbook.report.chart import batch_chart, phase_chart

    before = resumed({"resumed": journal.resumed})
    yield html.facts(
        {
            **({"Resumed": before} if before else {}),
            "Longest lock": f"{duration(journal.locked_ms)}, waited for and held: so long may the "
            "application have waited behind it",
            "Seen waiting": _seen(journal),
            **{f"Paused for {why}": duration(ms) for why, ms in journal.pauses.items()},
        }
    )
    if journal.phases:
        yield phase_chart(journal.phases)
        yield html.table(
            ["phase", "started (UTC)", "took"],
            [(one["phase"], one["started_at"][11:23], _took(one["ms"])) for one in journal.phases],
        )
    yield from _tries(journal.lock_tries)
    if journal.samples:
        yield batch_chart(journal.samples)


def resumed(online: Mapping[str, Any] | None) -> str:
    """Return which run was resumed, since when it is under way and how far it was; else ''."""
    run = (online or {}).get("resumed")
    if not run:
        return ""
    done = share(run["blocks_done"], run["blocks"])
    return (
        f"run {run['run_id']}, begun at {run['started_at']} by {run['started_by']}, which had "
        f"stopped at {run['phase']} with {done} of the blocks and {run['rows']:,} rows done"
    )


def _seen(journal: Journal) -> str:
    """Return how long sessions were seen waiting for batches and index builds."""
    sessions = journal.blocked_sessions
    if not sessions:
        return "no session behind a batch or the index (looked at every 100 ms)"
    return (
        f"{duration(journal.longest_block_ms)} at the longest behind a batch or the index, "
        f"{sessions:,} session{'' if sessions == 1 else 's'} at most at once (looked at every "
        "100 ms)"
    )


def _tries(tries: list[LockTry]) -> Iterator[html.Fragment]:
    """Yield the tries for locks: those that got one, and the last of those that did not."""
    failed = [one for one in tries if not one.got]
    hidden = failed[: max(0, len(failed) - SHOWN_TRIES)]
    yield html.table(
        ["lock for", "at (UTC)", "waited (ms)", "held (ms)", "got", "who was in the way"],
        [
            (
                one.phase,
                one.at[11:23],
                one.waited_ms,
                one.held_ms if one.got else None,
                html.Verdict(one.got, "yes", "no"),
                tuple(map(str, one.blockers)) or None,
            )
            for one in tries
            if one not in hidden
        ],
    )
    if hidden:
        yield html.line(f"{len(hidden):,} earlier tries without success are in manifest.json.")


def _took(ms: float | None) -> str:
    return "did not end" if ms is None else duration(ms)
