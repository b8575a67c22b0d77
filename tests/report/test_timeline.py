"""What a report says of an online run: first screen, phases, locks, batches, statements."""

import re
from typing import Any

from runbook.errors import Outcome
from runbook.plan.estimate import Range
from runbook.record import Count, CountAfter, Counts
from runbook.report import html, statements, summary
from runbook.report.chart import batch_chart, phase_chart
from runbook.report.timeline import SHOWN_TRIES, timeline
from runbook.run import Executed
from runbook.run.holders import Blocker
from runbook.run.online import Journal, LockTry, Sample
from runbook.vocabulary import Lock, Phase, Role, Statement
from tests.report.records import LABELS, record

RUN = "0b7c6a3e-0000-4000-8000-000000000001"

RESUMED = {
    "run_id": RUN,
    "started_at": "2026-03-04T01:02:03Z",
    "started_by": "ada",
    "phase": "backfill",
    "blocks_done": 250,
    "blocks": 1000,
    "rows": 12_345,
}

REPORTER = Blocker(
    pid=77,
    user="ada",
    application="<b>nightly</b>",
    state="idle in transaction",
    mode="AccessShareLock",
    age_s=61.0,
    query="SELECT 1",
)


def tried(phase: str, *, got: bool, waited_ms: float = 1.0) -> LockTry:
    return LockTry(
        phase=phase,
        at="2026-03-04T05:06:05.390Z",
        waited_ms=waited_ms,
        held_ms=20.5 if got else 0.0,
        got=got,
        blockers=() if got else (REPORTER,),
    )


def journal(**changed: Any) -> Journal:
    """Return the notes of a run of four seconds."""
    made = Journal(
        phases=[
            {"phase": phase, "started_at": f"2026-03-04T05:06:0{n}.000Z", "ms": ms}
            for n, (phase, ms) in enumerate(
                [("prepare", 0.4), ("expand", 900.0), ("backfill", 61_000.0), ("cutover", 25.0)]
            )
        ],
        lock_tries=[
            tried("expand", got=False, waited_ms=101.5),
            tried("expand", got=True),
            tried("cutover", got=True),
        ],
        samples=[
            Sample(ended_s=1.0, batches=3, blocks=100, rows=50, longest_ms=40.0, busy_ms=99.0),
            Sample(ended_s=2.0, batches=4, blocks=120, rows=70, longest_ms=60.0, busy_ms=99.0),
        ],
    )
    for name, changed_to in changed.items():
        setattr(made, name, changed_to)
    return made


def shown(made: Journal) -> str:
    """Return the text of a timeline, pictures by their alternative text."""
    return "\n".join(
        repr(one) if isinstance(one, html.Fragment) else one.alt for one in timeline(made)
    )


def test_it_says_who_was_in_the_way_and_for_how_long() -> None:
    text = shown(journal())
    assert "Longest lock: 102 ms, waited for and held" in text
    assert "pid 77 (ada, '<b>nightly</b>', idle in transaction) holds AccessShareLock" in text
    markup = "".join(one.markup for one in timeline(journal()) if isinstance(one, html.Fragment))
    assert "&lt;b&gt;nightly&lt;/b&gt;" in markup and "<b>nightly" not in markup
    assert "no session behind a batch or the index" in text
    seen = shown(journal(blocked_sessions=1, longest_block_ms=1234.5, pauses={"replica": 2500.0}))
    assert "1.2 s at the longest behind a batch or the index, 1 session at most" in seen
    assert "Paused for replica: 2.5 s" in seen


def test_a_run_that_went_on_with_another_says_so_first() -> None:
    assert "Resumed" not in shown(journal())
    first = shown(journal(resumed=RESUMED)).splitlines()[0]
    assert first == (
        f"Resumed: run {RUN}, begun at 2026-03-04T01:02:03Z by ada, which had stopped at backfill "
        "with 25.0% of the blocks and 12,345 rows done"
    )


def test_of_many_tries_in_vain_only_the_last_are_shown() -> None:
    vain = [tried("cutover", got=False, waited_ms=100.0 + n) for n in range(SHOWN_TRIES + 10)]
    text = shown(journal(lock_tries=[tried("expand", got=True), *vain]))
    assert text.count("✗ no") + text.count(" no ") >= SHOWN_TRIES
    assert "10 earlier tries without success are in manifest.json." in text
    assert "109.0" not in text and "110.0" in text and "134.0" in text


def test_a_run_that_did_nothing_yet_has_no_charts() -> None:
    assert [type(one) for one in timeline(Journal())] == [html.Fragment, html.Fragment]


def test_the_phases_are_told_in_words_too() -> None:
    alternative = phase_chart(journal().phases).alt
    assert alternative == (
        "Bar chart of the phases over time: prepare 0.4 ms, expand 900 ms, backfill 61.0 s, "
        "cutover 25 ms."
    )
    unended = [*journal().phases[:1], journal().phases[1] | {"ms": None}]
    assert phase_chart(unended).data.startswith(b"\x89PNG")


def test_the_batches_are_told_in_words_too() -> None:
    assert batch_chart(journal().samples).alt == (
        "Line chart of the backfill: 7 batches updated 120 rows in 2.0 seconds, the longest batch "
        "took 60 milliseconds."
    )


def online_record(**changed: Any) -> Any:
    made = record(
        counts=Counts(
            before=Count(total=4000),
            predicted=LABELS,
            after=CountAfter(total=4052, categories=LABELS),
        )
    )
    made.note_online(None, journal(**changed))
    made.proof = {**(made.proof or {}), "covers": "updated rows", "batches": {"rows": 282}}
    return made


def test_the_first_screen_says_what_matters_of_an_online_run() -> None:
    tiles = {tile.name: tile.amount for tile in summary.tiles(online_record())}
    assert tiles["application blocked"] == "≤ 102 ms" and "table locked" not in tiles
    assert tiles["rows updated, each proved"] == "282"
    seen = summary.tiles(online_record(blocked_sessions=2, longest_block_ms=2345.0))
    assert {tile.name: tile.amount for tile in seen}["application blocked"] == "≤ 2.3 s"
    assert "application blocked" not in {tile.name for tile in summary.tiles(record())}


def test_rows_that_the_application_added_meanwhile_are_no_difference() -> None:
    """Atomic they would be one."""
    assert not summary.total(online_record()).differs
    atomic = online_record()
    atomic.online = None
    assert summary.total(atomic).differs


def test_the_record_of_a_resumed_run_has_its_id() -> None:
    assert online_record().run_id != RUN
    assert online_record(resumed=RESUMED).run_id == RUN


def test_a_run_that_was_stopped_says_where() -> None:
    made = record(outcome=Outcome.STOPPED, exit_code=6, message="The run was interrupted.")
    made.note_online(None, journal(phases=journal().phases[:3]))
    assert summary.headline(made) == "Stopped: The run was interrupted."
    (tile,) = (tile for tile in summary.tiles(made) if tile.name == "where it stopped")
    assert (tile.amount, tile.kind) == ("backfill", "bad")


# -- statements ---------------------------------------------------------------------------------


def planned(
    text: str, phase: Phase, role: Role = Role.CHANGE, undo: str | None = None
) -> Statement:
    return Statement(
        sql=text, title=f"Do {text}", phase=phase, role=role, lock_timeout_ms=1, undo=undo
    )


def test_settings_that_follow_each_other_are_one_row() -> None:
    plan = [
        planned("SET a", Phase.EXPAND, Role.SETTING),
        planned("SET b", Phase.EXPAND, Role.SETTING),
        planned("LOCK", Phase.EXPAND, Role.LOCK),
        planned("CREATE", Phase.EXPAND, undo="DROP"),
        planned("SET c", Phase.CUTOVER, Role.SETTING),
        planned("ALTER", Phase.CUTOVER),
    ]
    ranges = [None] * 5 + [Range(least_ms=500.0, likely_ms=1_500.0, most_ms=4_000.0)]
    text = repr(statements.planned(plan, ranges))
    assert text.splitlines()[-1].endswith("1.5 s 500 ms–4.0 s")
    assert [line.split()[0] for line in text.splitlines()[1:] if re.match(r"\s*\d", line)] == [
        "1–2", "3", "4", "5", "6",
    ]  # fmt: skip
    markup = re.sub(r"<[^>]+>", "", statements.planned(plan, ranges).markup)
    assert "SET a;\nSET b" in markup and "-- undo: DROP" in markup
    ran = [executed(one, ms) for ms, one in enumerate(plan, start=1)]
    rows = repr(statements.executed(ran)).splitlines()[1:]
    assert ["Settings of this transaction" in row for row in rows] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert rows[0].split()[-2:] == ["3.0", "–"], "their times are summed"


def executed(statement: Statement, ms: float) -> Executed:
    return Executed(
        sql=statement.sql,
        title=statement.title,
        phase=statement.phase,
        role=statement.role,
        lock=Lock.NONE,
        waited_ms=0.0,
        held_ms=0.0,
        duration_ms=float(ms),
        rows=None,
        grows=False,
    )


def test_no_statements_are_said_to_be_none() -> None:
    assert repr(statements.planned([], [])) == repr(statements.executed([])) == "None."
