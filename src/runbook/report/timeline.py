"""The course of an online run for the reader: phases, tries for locks, batches over time."""

from collections.abc import Iterator
from typing import Any

from runbook.report import html
from runbook.report.chart import batch_chart
from runbook.run.online import Journal


def timeline(journal: Journal) -> Iterator[html.Fragment | Any]:
    """Yield what an online run did, and whom it held up, as far as it came."""
    yield html.facts(
        {
            "Longest lock": f"{journal.locked_ms:,.1f} ms (waited for and held)",
            "Application blocked": _blocked(journal),
            **{f"Paused for {why}": f"{ms / 1000:,.1f} s" for why, ms in journal.pauses.items()},
        }
    )
    yield html.table(
        ["phase", "started (UTC)", "took (ms)"],
        [(one["phase"], one["started_at"][11:23], one["ms"]) for one in journal.phases],
    )
    yield html.table(
        ["lock for", "at (UTC)", "waited (ms)", "held (ms)", "got", "who was in the way"],
        [
            (
                one.phase,
                one.at[11:23],
                one.waited_ms,
                one.held_ms,
                "yes" if one.got else "no",
                "; ".join(map(str, one.blockers)),
            )
            for one in journal.lock_tries
        ],
    )
    if journal.samples:
        yield batch_chart(journal.samples)


def _blocked(journal: Journal) -> str:
    """Return how long sessions were seen waiting for the run."""
    if not journal.blocked_sessions:
        return "no session was seen waiting for a lock of this run (looked at every 100 ms)"
    return (
        f"{journal.longest_block_ms:,.0f} ms at the longest, {journal.blocked_sessions:,} sessions "
        "at most at once (looked at every 100 ms)"
    )
