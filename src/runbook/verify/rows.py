"""The rows of the migrated table, counted by one query: what the checks on rows are judged by."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import read_table_named
from runbook.facts import Cutover, Table
from runbook.operations.classify import Classify
from runbook.operations.value import enum_text
from runbook.run import Applied
from runbook.spec import Spec
from runbook.verify.ask import Failure, ask
from runbook.verify.since import Since, written_since

_OTHER_TYPES = frozenset({"42883", "42804", "42725", "22P02", "22003", "22007", "0A000"})
"""Errors by which the rules do not fit the columns that they read: the run had them evaluated, so
somebody has given a column another type since."""


class Unasked(str):
    """Why a question cannot be asked any more, in words."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The migrated table's rows as they were at one moment."""

    sql: str
    """The query that counted them."""
    total: int
    predicted: Mapping[str, int] = field(default_factory=dict)
    """Rows per label as the rules give them. What was recorded once cannot be expected at a later
    time: the application goes on writing."""
    categories: Mapping[str, int] = field(default_factory=dict)
    """Rows per label as they stand in the table."""
    differing: int = 0
    """Rows whose label is not the one that the rules give."""
    since: Since = field(default_factory=Since)
    """Those among them that were written since the cutover: they are no fault of the run's."""
    failure: Failure | None = None
    """What the server said instead, where the query could not be answered."""
    unasked: Unasked | None = None
    """Why the rules cannot be asked any more, where they cannot."""

    @classmethod
    def of(cls, applied: Applied) -> "Counted":
        """Return what a run counted in its last statement, with nobody else able to write.

        It expects what the rules gave under the same lock before the change.
        """
        return cls(
            sql=applied.tally_sql,
            total=applied.after.rows,
            predicted=applied.before.categories,
            categories=applied.after.categories,
            differing=applied.after.wrong,
        )

    @property
    def expected(self) -> Mapping[str, int]:
        """Rows that each label should have, without those that were written since and differ."""
        theirs: Counter[str] = Counter()
        for (_, given), rows in self.since.rows.items():
            theirs[given] += rows
        return _without(self.predicted, theirs)

    def answer(self, part: str) -> object:
        """Return the answer to one part of the question."""
        if self.failure is not None:
            return self.failure
        if part == "unclassified":
            labelled = sum(self.categories.values())
            return {"rows": self.total, "with a label": labelled}
        if self.unasked is not None:
            return self.unasked
        theirs: Counter[str] = Counter()
        for (label, _), rows in self.since.rows.items():
            if label is not None:
                theirs[label] += rows
        answers: dict[str, object] = {
            "distribution": _without(self.categories, theirs),
            "differing": self.differing - self.since.total,
        }
        return answers[part]


def _without(rows: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Return what is left of each label; labels of no row are left out."""
    left = {label: n - others.get(label, 0) for label, n in rows.items()}
    return {label: n for label, n in left.items() if n}


def count_rows(connection: psycopg.Connection[Any], spec: Spec, cutover: Cutover | None) -> Counted:
    """Count the migrated table's rows, by label and by the label that the rules give them now, and
    tell those that were written since the cutover. To be called in a transaction of one snapshot.
    """
    relation = sql.name(spec.schema_, spec.table_after)
    table = read_table_named(connection, spec.schema_, spec.table_after)
    if spec.classify is None or table is None:
        return _total(connection, relation)
    if table.column(spec.classify.column) and (why := _gone(spec.classify, table)):
        return _labels(connection, spec.classify, relation, why)
    query = spec.classify.rows_query(table)
    found = ask(connection, query)
    if isinstance(found, Failure):
        if found.sqlstate in _OTHER_TYPES and table.column(spec.classify.column):
            why = Unasked(f"the rules do not fit the columns as they are now ({found})")
            return _labels(connection, spec.classify, relation, why)
        return replace(_total(connection, relation), sql=query, failure=found)
    counted = _counted(query, found)
    if not counted.differing:
        return counted
    since = written_since(connection, spec.classify, table, cutover)
    both = ";\n\n-- Of these, written since the cutover:\n".join(filter(None, (query, since.sql)))
    return replace(counted, since=since, sql=both)


def _counted(query: str, found: list[tuple[Any, ...]]) -> Counted:
    """Return what the rows (label, label by the rules, number) of the query say."""
    predicted: dict[str, int] = {}
    categories: dict[str, int] = {}
    for label, given, rows in found:
        predicted[given] = predicted.get(given, 0) + rows
        if label is not None:
            categories[label] = categories.get(label, 0) + rows
    return Counted(
        sql=query,
        total=sum(predicted.values()),
        predicted=predicted,
        categories=categories,
        differing=sum(rows for label, given, rows in found if label != given),
    )


def _gone(classify: Classify, table: Table) -> Unasked | None:
    """Return that columns which the rules read are not there any more, if so."""
    gone = [name for name in classify.rule_columns() if table.column(name) is None]
    if not gone:
        return None
    one = len(gone) == 1
    return Unasked(
        f"column{'' if one else 's'} {', '.join(gone)}, which the rules read, "
        f"{'is' if one else 'are'} gone since, or {'has' if one else 'have'} another name"
    )


def _labels(
    connection: psycopg.Connection[Any],
    classify: Classify,
    relation: sql.Composable,
    why: Unasked,
) -> Counted:
    """Count the rows by the label that they have alone."""
    query = sql.render(
        "SELECT {text}, rows\nFROM (\n    SELECT {column} AS label, count(*) AS rows\n"
        "    FROM {table} GROUP BY 1\n) AS counted ORDER BY 1",
        text=enum_text("label"),
        column=classify.column,
        table=relation,
    )
    found = ask(connection, query)
    if isinstance(found, Failure):
        return replace(_total(connection, relation), sql=query, failure=found)
    return Counted(
        sql=query,
        total=sum(rows for _, rows in found),
        categories={label: rows for label, rows in found if label is not None},
        unasked=why,
    )


def _total(connection: psycopg.Connection[Any], relation: sql.Composable) -> Counted:
    """Count the rows alone."""
    query = sql.render("SELECT count(*) FROM {table}", table=relation)
    found = ask(connection, query)
    return Counted(sql=query, total=0 if isinstance(found, Failure) else found[0][0])
