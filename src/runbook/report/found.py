"""What stands in a manifest that was found: its parts, each of the kind that is asked for.

A manifest may be of a run that came to an early end, of another version, or altered: whatever is
not of its kind counts as missing.
"""

from collections.abc import Mapping
from typing import Any


def mapping(part: object) -> Mapping[str, Any]:
    """Return an object, empty where there is none."""
    return part if isinstance(part, dict) else {}


def mappings(part: object) -> list[Mapping[str, Any]]:
    """Return the objects of a list."""
    return [one for one in part if isinstance(one, dict)] if isinstance(part, list) else []


def text(part: object) -> str:
    """Return a text, empty where there is none; half of a character is spelt out."""
    return part.encode("utf-8", "backslashreplace").decode() if isinstance(part, str) else ""


def number(part: object) -> int | None:
    """Return a whole number, or None."""
    return part if isinstance(part, int) and not isinstance(part, bool) else None
