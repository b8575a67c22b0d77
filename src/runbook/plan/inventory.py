"""The inventory: each object that depends on the table, and what the migration means for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from runbook.facts import Catalog, Kind, Related
from runbook.plan.model import Options
from runbook.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the inventory."""

    kind: str
    name: str
    detail: str
    fate: str
    """What becomes of it, in words."""


_BY_OID = "follows: it knows the table by its OID, not by its name"
_STAYS = "stays as it is"

_FATES: dict[Kind, str] = {
    Kind.VIEW: _BY_OID,
    Kind.MATERIALIZED_VIEW: _BY_OID,
    Kind.ROUTINE: _BY_OID,
    Kind.TRIGGER: "stays on the table, under its own name",
    Kind.RULE: _BY_OID,
    Kind.POLICY: "stays on the table, under its own name",
    Kind.PUBLICATION: "goes on; subscribers need the new column and name themselves",
    Kind.SUBSCRIPTION: "stops at the first change that arrives under the old name",
    Kind.REPLICA_IDENTITY: _STAYS,
    Kind.FOREIGN_KEY_FROM: "stays; takes the table's new name if it carries the old one",
    Kind.FOREIGN_KEY_TO: "stays; refers to the table under its new name",
    Kind.PARTITION: "gets the column and index with its parent, and keeps its name",
    Kind.PARENT: "is the table to name in the spec",
    Kind.CHILD: "would be changed along",
    Kind.GENERATED: _STAYS,
    Kind.STATISTICS: "stays on the table, under its own name",
    Kind.GRANT: "stays; holds for the new name, and for the new column where it is on the table",
    Kind.DEFAULT_PRIVILEGES: "decides who may use what the migration creates",
    Kind.EVENT_TRIGGER: "fires for the plan's DDL",
    Kind.EXTENSION: _STAYS,
    Kind.HISTORY: "has the migration only if that tool runs it, or is told of it",
    Kind.COMMENT: _STAYS,
    Kind.OTHER: "follows, as everything that the server itself keeps track of",
}

_DISABLED = {
    Kind.TRIGGER: "stays on the table, disabled",
    Kind.EVENT_TRIGGER: "is disabled: does not fire",
    Kind.SUBSCRIPTION: "is disabled: nothing arrives",
}


def inventory(spec: Spec, catalog: Catalog, options: Options) -> tuple[Entry, ...]:
    """Return everything around the table with its fate, kind by kind."""
    around = catalog.surroundings
    if around is None:
        return ()
    return (
        *(_entry(one, spec, options) for one in around.related),
        *(
            Entry(
                kind="prepared transaction",
                name=one.gid,
                detail=f"of {one.owner}, {one.age_s:,.0f} s old",
                fate="is in the way: it holds a lock" if one.on_table else _STAYS,
            )
            for one in around.prepared
        ),
        *(
            Entry(
                kind="session",
                name=str(one),
                detail=", ".join(_doing(one.state, one.transaction_s, one.locks)),
                fate="is waited for" if one.locks else "is waited for by an index build online",
            )
            for one in around.activity
        ),
    )


def _doing(state: str | None, age_s: float | None, locks: tuple[str, ...]) -> Iterator[str]:
    yield state or "state hidden"
    if age_s is not None:
        yield f"in a transaction for {age_s:,.1f} s"
    if locks:
        yield f"holds {', '.join(locks)}"


def _entry(one: Related, spec: Spec, options: Options) -> Entry:
    renames = spec.table_after != spec.table
    fate = _FATES.get(one.kind, _STAYS) if one.enabled else _DISABLED.get(one.kind, _STAYS)
    if one.kind in (Kind.ROUTINE_TEXT, Kind.STATEMENT):
        fate = _by_name(one.kind, renames, options.old_name_view)
    elif not renames and fate == _BY_OID:
        fate = _STAYS
    return Entry(kind=one.kind.value, name=one.name, detail=one.detail, fate=fate)


def _by_name(kind: Kind, renames: bool, view: bool) -> str:
    """Return what becomes of what knows the table by its name alone."""
    if not renames:
        return _STAYS
    if view:
        return "goes on through the view under the old name, until that is dropped"
    return "breaks at its next call" if kind is Kind.ROUTINE_TEXT else "fails from the rename on"
