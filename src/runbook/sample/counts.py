"""How many rows of each operation the sample holds, and the same for any other number of rows."""

import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

_OPERATIONS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "CREATED": {
            "SPOTIFY_TRACK_FALLBACK": 171,
            "manual_correction": 38,
            "MANUAL_ADD": 27,
            "MANUAL_DATA_QUALITY_UPDATE": 19,
            "MANUAL_CREATE": 11,
        },
        "ENRICHED": {
            "enrichment:album": 1486,
            "enrichment:artist": 1024,
            "enrichment:track": 412,
            "discogs:search-artist": 389,
            "discogs:get-artist": 347,
            "PREVIEW_ENRICHMENT": 112,
        },
        "CORRECTED": {"admin_correction": 15},
        "CACHED": {"cache:album-cover-art": 1},
        "FAILED": {},
    }
)

_WEIGHTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        **_OPERATIONS,
        "CACHED": {"cache:album-cover-art": 2, "cache:artist-image": 1},
        # No operation of the application can earn FAILED; this one stands in where a share asks.
        "FAILED": {"SPOTIFY_SYNC_FAILED": 1},
    }
)

SAMPLE: Mapping[str, int] = MappingProxyType(
    {operation: rows for group in _OPERATIONS.values() for operation, rows in group.items()}
)
"""Rows per operation in the sample: 4,052, which make ENRICHED 3,770, CREATED 266, CORRECTED 15,
CACHED 1 and FAILED 0."""

EVEN_SHARES: Mapping[str, float] = MappingProxyType(
    {"CREATED": 0.24, "ENRICHED": 0.36, "CORRECTED": 0.12, "CACHED": 0.20, "FAILED": 0.08}
)
"""Shares in which every label occurs and none has more than 40 % of the rows."""


def scaled(rows: int, shares: Mapping[str, float] | None = None) -> dict[str, int]:
    """Return how many rows of each operation make `rows` rows in all, exactly.

    Without `shares` the operations stand in the proportions of `SAMPLE`. With `shares` (label →
    part of 1) each label gets its part to the nearest row, spread over that label's operations.
    Operations that get no row are left out.

    Raises ValueError if `rows` is negative, a label is unknown, a share is negative or the
    shares do not add up to 1.
    """
    if rows < 0:
        raise ValueError(f"rows must not be negative: {rows}")
    if shares is None:
        return _apportioned(rows, SAMPLE)
    unknown = shares.keys() - _WEIGHTS.keys()
    if unknown:
        raise ValueError(f"unknown labels: {', '.join(sorted(unknown))}")
    if any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1):
        raise ValueError(f"shares must not be negative and must add up to 1: {dict(shares)}")
    return {
        operation: count
        for label, label_rows in _apportioned(rows, shares).items()
        for operation, count in _apportioned(label_rows, _WEIGHTS[label]).items()
    }


def _apportioned(rows: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Split `rows` by `weights` with the largest remainders rounded up; zeros are left out.

    At least one weight must be positive. Fractions keep the result free of float rounding.
    """
    total = sum(Fraction(weight) for weight in weights.values())
    quotas = {name: rows * Fraction(weight) / total for name, weight in weights.items()}
    counts = {name: math.floor(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: counts[name] - quotas[name])
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}
