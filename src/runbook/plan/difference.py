"""Where two plans differ, in words: the facts that they rest on, and the statements themselves."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

_WHOLE = {
    "migration": "the migration is another one",
    "mode": "the mode",
    "spec_sha256": "the spec's text is another one",
    "ledger_schema": "the ledger's schema",
}


def plan_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what changed from one plan to another, both as plain data: the spec, the options and
    the facts first, then the statements that read otherwise."""
    return tuple(
        dict.fromkeys(
            [
                *_whole_differences(before, after),
                *(what for what, _ in fact_differences(before["facts"], after["facts"])),
                *_reason_differences(before["reasons"], after["reasons"]),
                *_statement_differences(before["statements"], after["statements"]),
            ]
        )
    )


def _whole_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name, said in _WHOLE.items():
        if before[name] != after[name]:
            told = "" if said.endswith("one") else f" was {before[name]} and is {after[name]}"
            yield f"{said}{told}"


_FIGURES = re.compile(r"\d[\d,.]*( (ms|s|min|h)\b)?")


def _reason_differences(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield the reasons that are new; other figures in the same one are not: no plan rests on how
    many rows there are, but on what follows from that."""
    known = {_FIGURES.sub("", why) for why in before}
    yield from (f"now: {why}" for why in after if _FIGURES.sub("", why) not in known)


def _statement_differences(
    before: list[Mapping[str, Any]], after: list[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the statements that are gone, new, or not as they were, by their titles."""
    old, new = _by_title(before), _by_title(after)
    for phase, title in old:
        if (phase, title) not in new:
            yield f"statement {title!r} ({phase}) is gone"
            continue
        missing: Mapping[str, Any] = {}
        pairs = list(zip_longest(old[phase, title], new[phase, title], fillvalue=missing))
        changed = [
            name
            for name in ("sql", "lock", "lock_timeout_ms", "undo", "state", "cleanup")
            if any(one.get(name) != other.get(name) for one, other in pairs)
        ]
        if changed:
            yield f"statement {title!r} ({phase}) has another {', '.join(changed)}"
    yield from (
        f"statement {title!r} ({phase}) is new" for phase, title in new if (phase, title) not in old
    )


def _by_title(
    statements: list[Mapping[str, Any]],
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the statements by phase and title, which several may share."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in statements:
        found.setdefault((one["phase"], one["title"]), []).append(one)
    return found


def fact_differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each difference in words, and whether it is only something new."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (key for key in before if key in after):
            yield from fact_differences(before[key], after[key], _join(path, key))
        for key in (key for key in before if key not in after):
            yield f"{_join(path, key)} is gone", False
        yield from ((f"{_join(path, key)} is new", True) for key in after if key not in before)
    elif isinstance(before, list) and isinstance(after, list):
        ours, theirs = ({_name(item): item for item in items} for items in (before, after))
        for name in ours:
            if name not in theirs:
                yield f"{_join(path, name)} is gone", False
            else:
                yield from fact_differences(ours[name], theirs[name], _join(path, name))
        yield from ((f"{_join(path, name)} is new", True) for name in theirs if name not in ours)
    elif before != after:
        yield f"{path} was {before!r} and is {after!r}", False


def first_difference(before: Any, after: Any, path: str = "") -> str:
    """Return the first difference of two facts, with the path to it and both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                return first_difference(before.get(key), after.get(key), _join(path, key))
    if isinstance(before, list) and isinstance(after, list):
        names = [[_name(item) for item in items] for items in (before, after)]
        for one, others, verb in ((*names, "is gone"), (*reversed(names), "is new")):
            for name in one:
                if name not in others:
                    return f"{_join(path, name)} {verb}"
        for one, other in zip(before, after, strict=False):
            if one != other:
                return first_difference(one, other, _join(path, _name(one)))
    return f"{path} was {before!r} and is {after!r}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(item: Any) -> str:
    return str(item.get("name", "")) if isinstance(item, dict) else str(item)
