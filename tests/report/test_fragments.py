"""The pieces that notebooks show: tables, code and verdicts, as HTML and as text."""

import re
from html import unescape

import pytest

from runbook.report import html
from tests.report.page_reader import Page

SQL = """SELECT '<b>', "a & b"   -- a remark
FROM t WHERE x <> 'it''s' AND\ty LIKE 'a\\n%'"""
HOSTILE = "<script>alert(1)</script>"


def text(fragment: html.Fragment) -> str:
    """Return what a reader sees of a fragment."""
    return re.sub(r"\s+", " ", " ".join(Page(fragment.markup).texts))


def shown_code(fragment: html.Fragment) -> str:
    """Return the text of a fragment's one piece of code, character by character."""
    (code,) = re.findall(r"<pre[^>]*>(.*?)</pre>", fragment.markup, re.S)
    return unescape(re.sub(r"<[^>]*>", "", code))


@pytest.mark.parametrize("kind", [html.Code, html.Sql])
def test_code_is_shown_to_the_character(kind: type[html.Code]) -> None:
    assert shown_code(html.table(["sql"], [(kind(SQL),)])) == SQL


def test_sql_has_its_words_in_colours() -> None:
    markup = html.table(["sql"], [(html.Sql("SELECT 'x' -- why"),)]).markup
    for kind, word in (("k", "SELECT"), ("s1", "'x'"), ("c1", "-- why")):
        assert f'<span class="{kind}">{word}' in markup
    assert "<span" not in html.table(["sql"], [(html.Code("SELECT 'x'"),)]).markup.split("<pre")[1]


def test_a_folded_line_hides_its_code_until_it_is_opened() -> None:
    fragment = html.table(["question"], [(html.Folded(HOSTILE, html.Sql("SELECT 1")),)])
    page = Page(fragment.markup)
    assert page.all("details") == [{"class": "sql"}] and HOSTILE in page.texts
    assert "SELECT" in page.texts and "SELECT" not in repr(fragment) and HOSTILE in repr(fragment)


@pytest.mark.parametrize(("passed", "said"), [(True, "passed"), (False, "FAILED")])
def test_a_verdict_is_told_by_a_mark_and_a_word(passed: bool, said: str) -> None:
    fragment = html.table(["result"], [(html.Verdict(passed),)])
    assert f"{'✓' if passed else '✗'} {said}" in text(fragment) and said in repr(fragment)


def test_names_of_columns_are_text_too() -> None:
    fragment = html.table([HOSTILE, "rows"], [("a", 1)])
    assert HOSTILE not in fragment.markup and HOSTILE in text(fragment)


def test_text_stands_left_and_numbers_right_wherever_it_is_shown() -> None:
    fragment = html.table(["name", "rows"], [("a", 1234), ("b", None)])
    assert 'class="dataframe runbook right-2"' in fragment.markup
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", fragment.markup)
    left = [cell for cell in cells if "text-align:left" in cell]
    assert len(left) == 3 and [cell for cell in cells if cell not in left] == ["rows", "1,234", "–"]


def test_a_long_answer_has_a_line_for_each_part_in_the_same_order() -> None:
    whole = {"b": ["x"] * 12, "a": 1}
    assert html.as_json(whole).splitlines() == [
        '{"a": 1,',
        ' "b": [' + ", ".join(['"x"'] * 12) + "]}",
    ]
    assert html.as_json({"b": 1, "a": None}) == '{"a": null, "b": 1}'
    assert html.as_json("as it is") == "as it is"


@pytest.mark.parametrize("kind", ["good", "bad", "plain"])
def test_a_banner_stands_out_without_a_style_sheet(kind: str) -> None:
    fragment = html.banner(kind, HOSTILE, "Do this.")
    assert "border-left:5px solid #" in fragment.markup
    assert HOSTILE in text(fragment) and HOSTILE not in fragment.markup
    assert repr(fragment) == f"{HOSTILE}\nDo this."
    assert "<p>" not in html.banner(kind, "Head", "").markup
