"""What a report says before and after its notebook: the first screen, and the facts of the run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runbook.errors import Outcome
from runbook.numbers import duration, share, span
from runbook.record import Database, Record
from runbook.report.html import as_json

_HASH_CHARACTERS = 12
"""How much of a plan's hash is enough to tell two plans apart at a glance."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure to be seen first."""

    name: str
    amount: str
    kind: str = ""
    """`good`, `bad` or nothing: how it is coloured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The rows of one category, or of all: as many counts as `rows_head` has names."""

    label: str
    counts: tuple[int | None, ...]
    differs: bool
    """Whether it is not as predicted, or as before."""
    share: str = ""
    percent: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Facts that belong together."""

    title: str
    facts: Mapping[str, str]


def headline(record: Record) -> str:
    """Return the first line of a report: the outcome, and what it means."""
    return f"{record.outcome.replace('-', ' ').capitalize()}: {record.message}"


def brief(record: Record) -> list[str]:
    """Return where, when, by whom and by which plan, a few words each."""
    facts = [f"{record.migration} {record.step}", _place(record), _when(record)]
    facts.append(f"by {record.operator} on {record.host}")
    if record.plan:
        facts.append(f"plan {record.plan.sha256[:_HASH_CHARACTERS]}…")
    return facts


def _place(record: Record) -> str:
    """Return where the run was."""
    if record.fleet and "waves" in record.fleet:
        sizes = record.fleet["waves"]
        return f"fleet {record.fleet['name']}, {sum(sizes):,} targets in {len(sizes)} waves"
    return _where(record.database) if record.database else "no database was reached"


def tiles(record: Record) -> list[Tile]:
    """Return the figures to be seen first, as far as the run came."""
    counts, checks = record.counts, record.checks
    found = [_targets(record.fleet)] if record.fleet and record.fleet.get("targets") else []
    if counts.before:
        found.append(Tile(name="rows before", amount=f"{counts.before.total:,}"))
    if counts.after:
        found.append(Tile(name="rows after", amount=f"{counts.after.total:,}"))
    if record.proof:
        if batches := record.proof["batches"]:
            found.append(Tile(name="rows updated, each proved", amount=f"{batches['rows']:,}"))
        found.append(_proof(record.proof["passed"]))
    if checks:
        passed = sum(check["passed"] for check in checks)
        amount = f"{passed} of {len(checks)}"
        found.append(_judged("checks passed", passed == len(checks), amount, amount))
    for level, kind in (("blocker", "bad"), ("warning", "")):
        number = sum(finding["level"] == level for finding in record.findings)
        if number:
            name = level if number == 1 else f"{level}s"
            found.append(Tile(name=name, amount=str(number), kind=kind))
    if record.outcome is Outcome.STOPPED and record.online and record.online["phases"]:
        phase = record.online["phases"][-1]["phase"]
        found.append(Tile(name="where it stopped", amount=phase, kind="bad"))
    if record.step == "migrate" and record.plan:
        approved = "yes" if record.plan.is_approved else "no"
        found.append(Tile(name="plan approved", amount=approved))
    if record.rehearsal:
        found += _rehearsed(record.rehearsal)
    elif record.fleet and record.locked_ms is not None and "waves" in record.fleet:
        found.append(Tile(name="longest lock", amount=duration(record.locked_ms)))
    elif record.locked_ms is not None:
        found.append(
            Tile(name="application blocked", amount=f"≤ {duration(record.blocked_ms)}")
            if record.online
            else Tile(name="table locked", amount=f"{record.locked_ms:,.0f} ms")
        )
    return found


def rows_head(record: Record) -> tuple[str, ...]:
    """Return what each count of a row is: only what was counted has a column."""
    counts = record.counts
    known = {"before": counts.before, "predicted": counts.predicted, "after": counts.after}
    return tuple(name for name, count in known.items() if count is not None)


def rows(record: Record) -> list[Row]:
    """Return the rows per category, the largest first; before the change no row has a category."""
    predicted = record.counts.predicted or {}
    after = record.counts.after.categories if record.counts.after else None
    labels = [*predicted, *(label for label in after or {} if label not in predicted)]
    shown = predicted if after is None else after
    whole = sum(shown.values())
    return [
        Row(
            label=label,
            counts=_in_columns(record, None, predicted.get(label), (after or {}).get(label)),
            differs=after is not None and after.get(label, 0) != predicted.get(label, 0),
            share=share(shown.get(label, 0), whole),
            percent=100 * shown.get(label, 0) / whole if whole else 0.0,
        )
        for label in sorted(labels, key=lambda name: -shown.get(name, 0))
    ]


def total(record: Record) -> Row:
    """Return the count of all rows."""
    counts = record.counts
    before = counts.before.total if counts.before else None
    after = counts.after.total if counts.after else None
    predicted = sum(counts.predicted.values()) if counts.predicted else None
    # Online the application goes on: more or fewer rows than before are its own.
    compared = (predicted, after) if record.online else (before, predicted, after)
    known = {count for count in compared if count is not None}
    return Row(
        label="all rows",
        counts=_in_columns(record, before, predicted, after),
        differs=len(known) > 1,
    )


def checks(record: Record) -> list[dict[str, object]]:
    """Return the checks, those that failed first."""
    shown = [
        {**check, "expected": as_json(check["expected"]), "observed": as_json(check["observed"])}
        for check in record.checks
    ]
    return sorted(shown, key=lambda check: bool(check["passed"]))


def about(record: Record) -> list[Group]:
    """Return everything that the manifest says of the run itself, in groups."""
    groups = [Group(title="Run", facts=_run_facts(record))]
    if record.database:
        place = record.database
        facts = {name.replace("_", " "): _said(value) for name, value in place.model_dump().items()}
        groups.append(Group(title="Database", facts=facts))
    if record.plan:
        facts = {
            "SHA-256": record.plan.sha256,
            "mode": record.plan.mode,
            "approved": record.plan.approval_said,
        }
        groups.append(Group(title="Plan", facts=facts))
    if record.proof:
        groups.append(Group(title="Proof", facts=proof_facts(record.proof)))
    given = {name: _said(value) for name, value in record.parameters.items()}
    groups.append(Group(title="Parameters", facts=given))
    timed = {name: f"{seconds:,.3f} s" for name, seconds in record.timings.items()}
    groups.append(Group(title="Timings", facts=timed))
    groups.append(Group(title="Versions", facts=record.versions))
    return [group for group in groups if group.facts]


def proof_facts(proof: Mapping[str, Any]) -> dict[str, str]:
    """Return a proof in words."""
    return {name.replace("_", " "): _said(value) for name, value in proof.items()}


def _run_facts(record: Record) -> dict[str, str]:
    """Return what identifies the run, and how it ended."""
    return {
        "run": record.run_id or "unknown",
        "migration": record.migration,
        "step": record.step,
        "outcome": f"{record.outcome} (exit code {record.exit_code})",
        "started": record.started_at,
        "finished": record.finished_at or "unknown",
        "operator": record.operator,
        "host": record.host,
    }


def _proof(passed: bool | None) -> Tile:
    """Return what the proof says; None where others wrote, so that it says nothing."""
    name = "proof of the data"
    if passed is None:
        return Tile(name=name, amount="others wrote meanwhile")
    return _judged(name, passed, "equal", "DIFFERENT")


def _targets(fleet: Mapping[str, Any]) -> Tile:
    """Return how many targets of a fleet are migrated."""
    done, total = (sum(one["exit_code"] == 0 for one in fleet["targets"]), sum(fleet["waves"]))
    amount = f"{done:,} of {total:,}"
    return _judged("targets migrated", done == total, amount, amount)


def _rehearsed(rehearsal: Mapping[str, Any]) -> Iterator[Tile]:
    """Yield how much was tried, and what it comes to on the whole table."""
    rows, total = rehearsal["rows"], rehearsal["of_rows"]
    yield Tile(name="rows rehearsed", amount=f"{rows:,} of {total:,}")
    for one in rehearsal.get("estimates", ())[:1]:
        yield Tile(name="time, all rows", amount=span(*one["ms"]))
        yield Tile(name="lock, all rows", amount=span(*one["locked_ms"]))


def _judged(name: str, good: bool, amount: str, otherwise: str) -> Tile:
    """Return a tile that is green or red."""
    return Tile(name=name, amount=amount if good else otherwise, kind="good" if good else "bad")


def _in_columns(record: Record, *counts: int | None) -> tuple[int | None, ...]:
    """Return those of the counts before, predicted and after that have a column."""
    by_name = dict(zip(("before", "predicted", "after"), counts, strict=True))
    return tuple(by_name[name] for name in rows_head(record))


def _where(place: Database) -> str:
    """Return a database in a few words."""
    port = f":{place.port}" if place.port else ""
    role = f"{place.user} (superuser)" if place.is_superuser else place.user
    return f"{place.name} on {place.host}{port}, PostgreSQL {place.server_version}, as {role}"


def _when(record: Record) -> str:
    """Return when it ended, and how long it took."""
    if record.finished_at is None:
        return f"begun {_moment(record.started_at)}"
    began, ended = map(datetime.fromisoformat, (record.started_at, record.finished_at))
    return f"{_moment(record.finished_at)}, in {(ended - began).total_seconds():,.1f} s"


def _moment(stamp: str) -> str:
    """Return a time of a record as a person reads it."""
    return f"{stamp[:19].replace('T', ' ')} UTC"


def _said(value: object) -> str:
    """Return a fact in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {fact}" for name, fact in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "–"
    return "–" if value is None or value == "" else str(value)
