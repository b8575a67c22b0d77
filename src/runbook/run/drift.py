"""Telling in words where two sets of facts differ."""

from typing import Any


def first_difference(before: Any, after: Any, path: str = "") -> str:
    """Return the first difference of two facts, with the path to it and both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                return first_difference(before.get(key), after.get(key), _join(path, key))
    if isinstance(before, list) and isinstance(after, list):
        for one, other in zip(before, after, strict=False):
            if one != other:
                return first_difference(one, other, _join(path, _name(one)))
        if len(before) != len(after):
            longer, verb = (before, "is gone") if len(before) > len(after) else (after, "is new")
            return f"{_join(path, _name(longer[min(len(before), len(after))]))} {verb}"
    return f"{path} was {before!r} and is {after!r}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(item: Any) -> str:
    return str(item.get("name", "")) if isinstance(item, dict) else str(item)
