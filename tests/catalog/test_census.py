"""The census: what it counts is what the rules give row by row, whatever the columns hold."""

from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.facts import Census
from runbook.spec import Spec, parse_spec
from tests.conftest import Cluster, Database
from tests.migrating import catalog_of

HEAD = """
name = "census"
table = "things"
[[operation]]
op = "create_enum"
name = "kind"
labels = ["first", "second", "rest"]
[[operation]]
op = "classify"
column = "kind"
type = "kind"
otherwise = "rest"
[[operation.rule]]
label = "first"
when = {{ column = "{one}", {first} }}
[[operation.rule]]
label = "second"
when = {{ column = "{two}", {second} }}
"""


def census_of(database: Database, spec: Spec) -> Census:
    census = catalog_of(database, spec).census
    assert census is not None
    assert census.total == database.value("SELECT count(*) FROM things")
    assert spec.classify is not None
    labels = database.value(
        f"SELECT jsonb_agg({spec.classify.label_expression(None).as_string(None)}) FROM things"
    )
    counted = Counter(labels)
    assert dict(census.predicted) == {label: counted[label] for label in spec.classify.labels}
    return census


def test_columns_may_have_the_names_that_the_query_uses_itself(database: Database) -> None:
    database.execute(
        "CREATE TABLE things (n text, n_ text, c1 text, label text, source text)",
        "INSERT INTO things SELECT (ARRAY['a', 'b', NULL])[1 + i % 3], (ARRAY['a', 'c'])[1 + i % 2]"
        " FROM generate_series(1, 60) AS i",
    )
    text = HEAD.format(one="n", first='equals = "a"', two="n_", second='equals = "a"')
    census = census_of(database, parse_spec(text, file="t.toml"))
    assert [(rule.takes, rule.alone) for rule in census.rules] == [(20, 20), (20, 30), (20, 60)]
    assert census.group_counts == {"first": 2, "second": 2, "rest": 2}


def test_equal_values_that_differ_as_text_are_told_apart(database: Database) -> None:
    """1.0 = 1.00 to GROUP BY, and a rule may look at either as text."""
    database.execute(
        "CREATE TABLE things (price numeric, note json)",
        "INSERT INTO things SELECT (ARRAY[1.0, 1.00, 2])[1 + i % 3], '{\"a\": 1}'"
        " FROM generate_series(1, 30) AS i",
    )
    text = HEAD.format(one="price", first='like = "1.00"', two="price", second='like = "1%"')
    census = census_of(database, parse_spec(text, file="t.toml"))
    assert [(rule.takes, rule.alone) for rule in census.rules] == [(10, 10), (10, 20), (10, 30)]
    assert {group.values for group in census.groups} == {("1.0",), ("1.00",), ("2",)}


def test_an_empty_table_has_a_census(database: Database) -> None:
    database.execute("CREATE TABLE things (a text, b text)")
    text = HEAD.format(one="a", first='equals = "x"', two="b", second='equals = "y"')
    census = census_of(database, parse_spec(text, file="t.toml"))
    assert census.total == 0 and [rule.takes for rule in census.rules] == [0, 0, 0]


RULES = """
name = "census"
table = "things"
[[operation]]
op = "create_enum"
name = "kind"
labels = ["A", "B", "C", "rest"]
[[operation]]
op = "classify"
column = "kind"
type = "kind"
otherwise = "rest"
[[operation.rule]]
label = "A"
when = { column = "done", like = "a%" }
[[operation.rule]]
label = "B"
when = { column = "state", equals = ["x", "y"] }
[[operation.rule]]
label = "A"
when = { column = "done", equals = "b" }
[[operation.rule]]
label = "C"
when = { any = [{ column = "state", is_null = true }, { column = "done", equals = "ab" }] }
"""

MATCHES: tuple[Callable[[str | None, str | None], bool], ...] = (
    lambda done, state: done is not None and done.startswith("a"),
    lambda done, state: state in {"x", "y"},
    lambda done, state: done == "b",
    lambda done, state: state is None or done == "ab",
    lambda done, state: True,
)
LABELS = ("A", "B", "A", "C", "rest")


def first_of(order: Sequence[int], row: tuple[str | None, str | None]) -> int:
    """Return the first rule in an order that matches a row."""
    return next(n for n in order if MATCHES[n](*row))


VALUES = st.sampled_from([None, "", "a", "ab", "b", "x", "y"])


def test_it_counts_what_the_rules_give_row_by_row_in_every_order(newest: Cluster) -> None:
    database, spec = newest.make(), parse_spec(RULES, file="t.toml")
    database.execute("CREATE TABLE things (done text, state text)")

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(VALUES, VALUES), max_size=12))
    def holds(rows: list[tuple[str | None, str | None]]) -> None:
        with database.connect() as connection:
            connection.execute("TRUNCATE things")
            connection.cursor().executemany("INSERT INTO things VALUES (%s, %s)", rows)
        census = census_of(database, spec)
        given_by = [first_of(range(5), row) for row in rows]
        for n, rule in enumerate(census.rules):
            assert rule.takes == given_by.count(n)
            assert rule.alone == sum(MATCHES[n](*row) for row in rows)
            taken = Counter(
                LABELS[by] for by, row in zip(given_by, rows, strict=True) if MATCHES[n](*row)
                if by < n
            )  # fmt: skip
            assert dict(rule.taken_by) == dict(taken)
        for n, rule in enumerate(census.rules[:-1]):
            order = [n, *(other for other in range(5) if other != n)]
            first = Counter(LABELS[first_of(order, row)] for row in rows)
            assert dict(census.with_first(rule)) == {
                label: first[label] for label in census.predicted
            }
        assert {name: dict(labels) for name, labels in census.nulls.items()} == {
            name: dict(found)
            for place, name in enumerate(("done", "state"))
            if (found := Counter(LABELS[by] for by, row in zip(given_by, rows, strict=True)
                                 if row[place] is None))
        }  # fmt: skip

    try:
        holds()
    finally:
        newest.drop(database)
