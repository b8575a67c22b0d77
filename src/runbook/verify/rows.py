"""The rows of the migrated table, counted by one query: what the checks on rows are judged by."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from runbook import sql
from runbook.catalog import read_table_named
from runbook.run import Applied
from runbook.spec import Spec
from runbook.verify.ask import Failure, ask


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
    failure: Failure | None = None
    """What the server said instead, where the query could not be answered."""

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

    def answer(self, part: str) -> object:
        """Return the answer to one part of the question."""
        if self.failure is not None:
            return self.failure
        labelled = sum(self.categories.values())
        answers: dict[str, object] = {
            "unclassified": {"rows": self.total, "with a label": labelled},
            "distribution": {label: n for label, n in self.categories.items() if n},
            "differing": self.differing,
        }
        return answers[part]


def count_rows(connection: psycopg.Connection[Any], spec: Spec) -> Counted:
    """Count the migrated table's rows, by label and by the label that the rules give them now."""
    relation = sql.name(spec.schema_, spec.table_after)
    table = read_table_named(connection, spec.schema_, spec.table_after)
    if spec.classify is None or table is None:
        return _total(connection, relation)
    query = spec.classify.rows_query(table)
    found = ask(connection, query)
    if isinstance(found, Failure):
        return replace(_total(connection, relation), sql=query, failure=found)
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


def _total(connection: psycopg.Connection[Any], relation: sql.Composable) -> Counted:
    """Count the rows alone."""
    query = sql.render("SELECT count(*) FROM {table}", table=relation)
    found = ask(connection, query)
    return Counted(sql=query, total=0 if isinstance(found, Failure) else found[0][0])
