"""What the fleet's notebook shows: tables of targets, plans, findings and what is left."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from runbook.fleet.result import Result
from runbook.fleet.survey import Survey
from runbook.fleet.targets import Target
from runbook.numbers import duration
from runbook.record import Counts
from runbook.report import html

_SHOWN = 10
"""How many of many are named."""

_HASH = 12
"""How much of a hash tells two plans apart at a glance."""


def waves(found: Sequence[Sequence[Target]]) -> html.Fragment:
    """Return the waves with their targets."""
    rows = [
        ("canary" if n == 1 else f"wave {n}", len(wave), _some([one.name for one in wave]))
        for n, wave in enumerate(found, start=1)
    ]
    return html.table(["wave", "targets", "which"], rows)


def plans(survey: Survey) -> Iterator[html.Fragment]:
    """Yield the plans, that of most targets first, each with what is other in it, and their hashes
    in full."""
    rows: list[tuple[object, ...]] = [
        (
            f"{plan.sha256[:_HASH]}…",
            plan.mode,
            len(plan.targets),
            plan.rows,
            duration(plan.longest_lock_ms),
            _some(plan.targets),
            "; ".join(plan.differences[:_SHOWN]) or "–",
        )
        for plan in survey.plans
    ]
    if survey.applied:
        named = _some(survey.applied)
        rows.append(("migrated already", "", len(survey.applied), None, "", named, ""))
    head = ["plan", "mode", "targets", "rows", "longest lock, estimated", "which", "differs in"]
    yield html.table(head, rows)
    if survey.plans:
        yield html.facts({f"Plan {one.sha256[:_HASH]}…": one.sha256 for one in survey.plans})


def blocked(survey: Survey) -> Iterator[html.Fragment]:
    """Yield the targets that cannot be migrated as they are, by the reason."""
    if survey.blocked:
        reasons: dict[str, list[str]] = {}
        for name, why in survey.blocked.items():
            reasons.setdefault(why, []).append(name)
        rows = [(why, len(names), _some(names)) for why, names in reasons.items()]
        yield html.table(["cannot be migrated: why", "targets", "which"], rows)


def outcomes(results: Sequence[Result]) -> html.Fragment:
    """Return how many targets came to which outcome, wave by wave."""
    found = Counter((one.wave, one.outcome) for one in results)
    kinds = sorted({one.outcome for one in results})
    rows = [
        ("canary" if wave == 1 else f"wave {wave}", *(found[wave, kind] or None for kind in kinds))
        for wave in sorted({one.wave for one in results})
    ]
    whole = ("all", *(sum(found[key] for key in found if key[1] == kind) for kind in kinds))
    return html.table(["", *kinds], [*rows, whole])


def counts(found: Counts) -> html.Fragment:
    """Return the rows of all targets together."""
    predicted = found.predicted or {}
    after = found.after.categories if found.after else {}
    labels = [*predicted, *(label for label in after if label not in predicted)]
    rows: list[tuple[object, ...]] = [
        (label, None, predicted.get(label, 0), after.get(label, 0)) for label in labels
    ]
    rows.append(
        (
            "all rows",
            found.before.total if found.before else None,
            sum(predicted.values()),
            found.after.total if found.after else None,
        )
    )
    return html.table(["", "before", "predicted", "after"], rows)


def slowest(results: Sequence[Result]) -> Iterator[html.Fragment]:
    """Yield the targets that took longest, and those whose table was locked longest."""
    ran = [one for one in results if one.took_ms]
    if ran:
        rows = [
            (one.target, one.rows_after, duration(one.took_ms), duration(one.database_ms))
            for one in sorted(ran, key=lambda one: -one.took_ms)[:_SHOWN]
        ]
        yield html.table(["slowest", "rows", "run", "of it database"], rows)
    locked = [one for one in results if one.locked_ms is not None]
    if locked:
        longest = sorted(locked, key=lambda one: -(one.locked_ms or 0))[:_SHOWN]
        yield html.table(
            ["longest locks", "rows", "locked"],
            [(one.target, one.rows_after, duration(one.locked_ms or 0)) for one in longest],
        )


def findings(results: Sequence[Result]) -> Iterator[html.Fragment]:
    """Yield the findings of all targets, each once, with the targets that have it."""
    grouped: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one in results:
        for finding in one.findings:
            key = finding["level"], finding["code"]
            grouped.setdefault(key, []).append((one.target, finding["message"]))
    if grouped:
        order = {"blocker": 0, "warning": 1, "note": 2}
        rows = [
            (level, code, len({name for name, _ in found}), found[0][1], _some(_names(found)))
            for (level, code), found in sorted(
                grouped.items(), key=lambda item: (order.get(item[0][0], 3), -len(item[1]))
            )
        ]
        yield html.table(["level", "finding", "targets", "the first says", "which"], rows)


def _names(found: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found))


def left(results: Sequence[Result]) -> Iterator[html.Fragment]:
    """Yield what is left to do: the targets that are not done, by the reason."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for one in results:
        if not one.is_done:
            grouped.setdefault((one.outcome, one.message, one.remedy), []).append(one.target)
    if grouped:
        rows = [
            (outcome, len(names), _some(names), why, remedy)
            for (outcome, why, remedy), names in grouped.items()
        ]
        yield html.table(["left to do", "targets", "which", "why", "what to do"], rows)


def all_targets(results: Sequence[Result]) -> html.Fragment:
    """Return every target, those that are not done first."""
    rows = [
        (
            one.target,
            one.wave,
            one.outcome,
            one.rows_before,
            one.rows_after,
            {True: "equal", False: "DIFFERENT", None: "–"}[one.proof],
            f"{one.checks - len(one.checks_failed)} of {one.checks}" if one.checks else "–",
            duration(one.locked_ms) if one.locked_ms is not None else "–",
            duration(one.took_ms) if one.took_ms else "–",
            one.attempts,
            html.Link(one.bundle, f"../{one.bundle}/report.html") if one.bundle else "–",
        )
        for one in sorted(results, key=lambda one: one.is_done)
    ]
    head = ["target", "wave", "outcome", "rows before", "after", "proof", "checks", "locked"]
    return html.table([*head, "took", "tries", "report"], rows)


def checks(results: Sequence[Result], total: int) -> list[dict[str, Any]]:
    """Return the checks of the fleet itself, asked of what its targets' manifests say."""
    done = [one for one in results if one.is_done]
    ran = [one for one in done if one.proof is not None or one.outcome == "succeeded"]
    unproved = [one.target for one in ran if one.proof is False]
    lost = [
        one.target
        for one in done
        if one.rows_before is not None and one.proof and one.rows_before != one.rows_after
    ]
    unlike = [one.target for one in done if one.predicted and _differs(one)]
    unsealed = [one.target for one in done if not one.manifest_sha256]
    asked: tuple[tuple[str, str, object, object], ...] = (
        ("all-targets", "Every target is migrated, with every check passed", total, len(done)),
        ("proofs", "No run altered a value: targets whose proof failed", [], unproved),
        ("rows", "No run lost or added a row: targets with other counts after", [], lost),
        ("distribution", "Every category has the rows of the rules: targets where not", [], unlike),
        ("bundles", "Every target that is done has a sealed bundle: those without", [], unsealed),
    )
    return [
        {
            "id": name,
            "title": title,
            "sql": "-- asked of the manifests of the targets' own bundles",
            "expected": expected,
            "observed": observed,
            "passed": expected == observed,
        }
        for name, title, expected, observed in asked
    ]


def _differs(result: Result) -> bool:
    """Return whether a target's categories are not as the rules gave them."""
    labels = {*result.predicted, *result.categories}
    return any(result.predicted.get(one, 0) != result.categories.get(one, 0) for one in labels)


def _some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
