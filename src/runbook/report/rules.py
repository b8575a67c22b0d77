"""The rule review: what each rule takes, the values behind, and what another order would give."""

from collections.abc import Iterator, Mapping

from runbook import sql
from runbook.facts import Census, RuleCount
from runbook.operations.classify import Classify
from runbook.report import html

SHOWN_GROUPS = 5
"""How many groups of values are shown of each label that a rule gives, the largest first."""

READINGS = 2
"""In how many orders a chart shows the rows, beside that of the spec's at most."""


def rules(classify: Classify, census: Census) -> html.Fragment:
    """Return the rules in their order, with the rows that each takes and would take."""
    predicates: list[object] = [
        html.Sql(sql.text(one.when.predicate(None))) for one in classify.rules
    ]
    predicates.append("everything else")
    return html.table(
        ["rule", "label", "predicate", "rows it takes", "share", "taken before it"],
        [
            (
                str(n),
                counted.label,
                predicate,
                counted.takes,
                html.Bar(counted.takes, census.total),
                _taken(counted, is_last=n == len(predicates)),
            )
            for n, (counted, predicate) in enumerate(
                zip(census.rules, predicates, strict=True), start=1
            )
        ],
    )


def _taken(rule: RuleCount, *, is_last: bool) -> object:
    """Return what earlier rules take of the rows that a rule matches."""
    if is_last or rule.takes == rule.alone:
        return None
    taken = ", ".join(f"{label} {rows:,}" for label, rows in rule.taken_by.items())
    return f"{rule.alone - rule.takes:,} of {rule.alone:,}: {taken}"


def values_behind(census: Census) -> html.Fragment:
    """Return the values that each label's rows have, label by label in order of size; those that no
    rule took are a table of their own."""
    labels = [label for label in _by_size(census.predicted) if label != census.rules[-1].label]
    return html.table(
        ["label", *census.columns, "rows", "share of all"],
        [row for label in labels for row in _groups(census, label, SHOWN_GROUPS)],
    )


def values_without_rule(classify: Classify, census: Census) -> Iterator[html.Fragment]:
    """Yield what only the catch-all took, against what the spec expects."""
    rest, expected = census.rules[-1].takes, classify.expect_otherwise
    yield html.banner(
        "good" if rest <= expected else "bad",
        f"{rest:,} rows match no rule and get {classify.otherwise}; the spec expects at most "
        f"{expected:,}.",
        ""
        if rest <= expected
        else f"{rest - expected:,} more than that: is a rule missing? Decide by these values.",
    )
    if rest:
        yield html.table(
            ["label", *census.columns, "rows", "share of all"],
            list(_groups(census, classify.otherwise, None)),
        )


def _groups(census: Census, label: str, most: int | None) -> Iterator[tuple[object, ...]]:
    """Yield a label's groups of values, the largest first, and what is left of them."""
    shown = [group for group in census.groups if group.label == label][:most]
    for group in shown:
        told = (
            html.Aside("NULL") if value is None else value or html.Aside("(empty)")
            for value in group.values
        )
        yield (label, *told, group.rows, html.Bar(group.rows, census.total))
    more = census.group_counts.get(label, 0) - len(shown)
    if more:
        rest = census.predicted[label] - sum(group.rows for group in shown)
        blank = [""] * (len(census.columns) - 1)
        yield (label, f"… {more:,} more", *blank, rest, html.Bar(rest, census.total))


def nulls(census: Census) -> html.Fragment:
    """Return the rows that have NULL where a rule looks, by the label that they get."""
    return html.table(
        ["NULL in", "label", "rows", "share of all"],
        [
            (column, label, rows, html.Bar(rows, census.total))
            for column, labels in census.nulls.items()
            for label, rows in labels.items()
        ],
    )


def overlapping(census: Census) -> list[RuleCount]:
    """Return the rules whose place decides about rows, the one with most of them first."""
    found = [rule for rule in census.rules[:-1] if rule.taken_by.keys() - {rule.label}]
    return sorted(found, key=lambda rule: -sum(rule.taken_by.values()))


def readings(census: Census) -> Iterator[html.Fragment]:
    """Yield, for each rule whose place decides, both readings side by side: as written, and with
    that rule first."""
    for rule in overlapping(census):
        taken = {label: rows for label, rows in rule.taken_by.items() if label != rule.label}
        first = census.with_first(rule)
        keep = ", ".join(f"{label} {rows:,}" for label, rows in taken.items())
        yield html.banner(
            "plain",
            f"{rule.alone:,} rows match the rule for {rule.label}, and earlier rules take "
            f"{sum(taken.values()):,} of them ({keep}).",
            f"The first rule that matches wins, as written. If such rows shall be {rule.label}, "
            "put its rule first in a spec of your own: the plan is another one then.",
        )
        yield html.table(
            ["label", "as written", "share", f"with {rule.label} first", "share ", "difference"],
            [
                (
                    label,
                    census.predicted[label],
                    html.Bar(census.predicted[label], census.total),
                    first[label],
                    html.Bar(first[label], census.total),
                    f"{change:+,}" if (change := first[label] - census.predicted[label]) else None,
                )
                for label in _by_size(census.predicted)
            ],
        )


def charted(census: Census) -> Mapping[str, Mapping[str, int]]:
    """Return what a chart compares: the rows as written, and in the orders that differ most."""
    return {
        "predicted": census.predicted,
        **{
            f"with {rule.label} first": census.with_first(rule)
            for rule in overlapping(census)[:READINGS]
        },
    }


def _by_size(counts: Mapping[str, int]) -> list[str]:
    """Return labels, the largest first and equal ones in the spec's order."""
    return sorted(counts, key=lambda label: -counts[label])
