"""Numbers as a person reads them."""


def size(count: int) -> str:
    """Return bytes in the unit that reads best."""
    amount, units = float(count), ("bytes", "kB", "MB", "GB", "TB")
    for unit in units[:-1]:
        if amount < 1024:
            return f"{amount:,.0f} {unit}"
        amount /= 1024
    return f"{amount:,.0f} {units[-1]}"


def duration(ms: float) -> str:
    """Return milliseconds in the unit that reads best."""
    if ms < 1_000:
        return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:,.1f} ms"
    return f"{ms / 1000:,.1f} s" if ms < 600_000 else f"{ms / 60_000:,.0f} min"


def span(least: float, most: float) -> str:
    """Return a range of milliseconds; one figure where both read the same."""
    first, last = duration(least), duration(most)
    if first == last:
        return first
    same_unit = first.rpartition(" ")[2] == last.rpartition(" ")[2]
    return f"{first.rpartition(' ')[0] if same_unit else first}–{last}"


def share(part: int, whole: int) -> str:
    """Return a share in per cent; a few rows among many are never shown as none."""
    if not whole:
        return "–"
    return "<0.1%" if 0 < part < whole / 1000 else f"{part / whole:.1%}"
