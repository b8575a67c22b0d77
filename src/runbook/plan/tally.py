"""The tallies: the queries that count and fingerprint every row, before and after the change.

One scan each gives the rows per label and the proof. The fingerprint is order-independent: the
hashes of all rows over all columns that existed before, summed exactly, so that the server may scan
in parallel. Measured: 1.0 s for 1,000,000 rows of 26 columns on 2 cores.

Where the columns that the rules look at have few distinct values, rows are summed up by these first
and the rules evaluated once a group and not once a row, which saves a tenth.
"""

from dataclasses import dataclass
from typing import LiteralString

from runbook import sql
from runbook.facts import Census, Table
from runbook.operations.classify import Classify
from runbook.operations.fingerprint import ONCE, ROW_HASH, row_image, sum_of_hashes
from runbook.operations.value import enum_text, is_other_label

ALGORITHM = f"sum over the rows of {ROW_HASH}"

MOST_GROUPS = 1_000
"""From how many groups on the rules are evaluated by row: the sums of as many fit into the memory
of a sort or hash (`work_mem`, 4 MB by default) many times over."""


@dataclass(frozen=True, kw_only=True)
class Tallies:
    """The tallies of one table under one set of rules."""

    table: Table
    classify: Classify | None
    by_group: bool
    """Whether the rules are evaluated once for each group of equal rows."""

    @classmethod
    def of(cls, table: Table, classify: Classify | None, census: Census) -> "Tallies":
        """Return those that are cheapest by the counted groups."""
        columns = classify.rule_columns() if classify else ()
        by_group = (
            classify is not None
            and table.is_exact(columns)
            and sum(census.group_counts.values()) <= MOST_GROUPS
        )
        return cls(table=table, classify=classify, by_group=by_group)

    def before(self) -> str:
        """Return the query over the table as it is: rows and hashes per label that the rules
        give."""
        label = self.classify.label_expression(self.table) if self.classify else _NULL
        return self._tally(self.table.name, label, _FALSE, _LABEL)

    def after(self, name: str) -> str:
        """Return the query over the changed table: rows and hashes per label that the rows have,
        and how many of them the rules would now label differently."""
        if self.classify is None:
            return self._tally(name, _NULL, _FALSE, _LABEL)
        column = self.classify.column
        type_ = sql.name(self.table.schema, self.classify.type)
        wrong = is_other_label(column, self.classify.label_expression(self.table, type_))
        # By the column, and not by its text: that would be made once a row, not once a label.
        return self._tally(name, sql.name(column), wrong, enum_text("label"), column)

    def _tally(
        self,
        name: str,
        label: sql.Composable,
        wrong: sql.Composable,
        text: sql.Composable,
        *also: str,
    ) -> str:
        """Return a query of columns label, rows, wrong, hashes; `text` gives the label's text, and
        `also` are columns beyond those of the rules that label and wrong depend on."""
        columns = (*(self.classify.rule_columns() if self.classify else ()), *also)
        image, rows, hashes = (
            sql.free_name(wanted, columns) for wanted in ("image", "rows", "hashes")
        )
        return sql.render(
            _BY_GROUP if self.by_group else _BY_ROW,
            text=text,
            label=label,
            wrong=wrong,
            columns=sql.names(columns),
            as_image=image,
            as_rows=rows,
            as_hashes=hashes,
            hashes=sum_of_hashes(image),
            image=row_image(self.table),
            table=sql.name(self.table.schema, name),
            once=sql.compose(ONCE),
        )


_NULL, _FALSE, _LABEL = sql.compose("NULL::text"), sql.compose("false"), sql.compose("label")

_BY_ROW: LiteralString = """\
SELECT {text} AS label, count(*) AS rows, count(*) FILTER (WHERE wrong) AS wrong,
    {hashes} AS hashes
FROM (
    SELECT {label} AS label, {wrong} AS wrong,
        {image} AS {as_image}
    FROM {table} {once}
) AS tallied GROUP BY tallied.label"""

_BY_GROUP: LiteralString = """\
SELECT {text} AS label, sum({as_rows})::bigint AS rows,
    coalesce(sum({as_rows}) FILTER (WHERE wrong), 0)::bigint AS wrong, sum({as_hashes}) AS hashes
FROM (
    SELECT {label} AS label, {wrong} AS wrong,
        {as_rows}, {as_hashes}
    FROM (
        SELECT {columns}, count(*) AS {as_rows},
            {hashes} AS {as_hashes}
        FROM (
            SELECT {columns},
                {image} AS {as_image}
            FROM {table} {once}
        ) AS tallied GROUP BY {columns}
    ) AS grouped
) AS labelled GROUP BY labelled.label"""
