"""How fast the server reads and hashes rows, measured on a few of them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Ranges of blocks, evenly spread over the table, each read and hashed once."""

    rows: int
    """Rows that were read in all."""
    least_us: float
    """Microseconds for a row, in the fastest range."""
    median_us: float
    most_us: float
