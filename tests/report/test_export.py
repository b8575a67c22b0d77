"""The report of a record: its first screen, the folded notebook, and the facts of the run."""

import re
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from runbook.errors import Outcome
from runbook.record import MIME, Count, CountAfter, Counts, Record
from runbook.report import html
from runbook.report.export import report_html, report_notebook
from tests.report.page_reader import Page, first_text
from tests.report.records import check, record

TEXT = {"text/html": "<p>shown</p>", "text/plain": "shown"}


def notebook(*outputs: dict[str, Any]) -> NotebookNode:
    """Return a notebook with two sections and one cell of code."""
    made = [new_output("display_data", data=data) for data in outputs]
    return new_notebook(
        cells=[
            new_markdown_cell("# Migration\n\n## Before & after\n\nLook.", id="a"),
            new_code_cell("run.connect()", execution_count=1, outputs=made, id="b"),
            new_markdown_cell("## Checks", id="c"),
        ]
    )


def shown(ended: Record, *outputs: dict[str, Any]) -> Page:
    """Return a report as a browser reads it."""
    return Page(report_html(notebook(*outputs), ended).decode())


def text(page: Page) -> str:
    """Return all that a reader sees."""
    return re.sub(r"\s+", " ", " ".join(page.texts))


def test_it_begins_with_the_outcome_whatever_that_is() -> None:
    for outcome in Outcome:
        markup = report_html(notebook(), record(outcome=outcome, message="So it ended."))
        words = outcome.value.replace("-", " ").capitalize()
        assert first_text(markup.decode()) == f"{words}: So it ended."


def test_the_counts_of_each_category_stand_side_by_side_the_largest_first() -> None:
    said = text(shown(record()))
    assert "before predicted after share ENRICHED 3,770 3,770 93.0% CREATED 266 266 6.6%" in said
    assert "FAILED 0 0 0.0% all rows 4,052 4,052 4,052" in said
    assert said.count("707584017671796113180") == 4  # at first sight, and among the facts


def test_only_what_was_counted_has_a_column() -> None:
    reviewed = record(
        counts=Counts(before=Count(total=10), predicted={"A": 7, "B": 3}), checks=[], proof=None
    )
    said = text(shown(reviewed))
    assert "before predicted share A 7 70.0% B 3 30.0% all rows 10 10" in said
    assert "Every value" not in said and "checks passed" not in said


def test_a_category_that_is_not_as_predicted_stands_out() -> None:
    counts = Counts(
        before=Count(total=10),
        predicted={"A": 7, "B": 3},
        after=CountAfter(total=10, categories={"A": 7, "B": 2, "NEW": 1}),
    )
    page = shown(record(counts=counts))
    assert [row.get("class") for row in page.all("tr")] == [None, None, "bad", "bad", None]
    assert "NEW – 1 10.0%" in text(page).replace("NEW 1", "NEW – 1")


def test_a_check_that_failed_comes_first_with_its_answer() -> None:
    page = shown(record(checks=[check("first"), check("second", passed=False)]))
    said = text(page)
    assert "1 of 2 checks passed" in said
    assert said.index("second What second asks expected 1 , observed 2") < said.index("What first")
    kinds = [item.get("class") for item in page.all("li")]
    assert kinds[-2:] == ["bad", "good"]


def test_data_that_differ_are_told_of() -> None:
    assert record().proof
    proof = {**(record().proof or {}), "fingerprint_after": "17", "passed": False,
             "says": "The data differ.", "different": ["Row 7 altered (word)"]}  # fmt: skip
    said = text(shown(record(proof=proof)))
    for fact in ("DIFFERENT proof of the data", "The data differ.", "after 17",
                 "Row 7 altered (word)"):  # fmt: skip
        assert fact in said


def test_findings_stand_in_the_first_screen_with_what_to_do() -> None:
    finding = {"level": "blocker", "code": "x", "object": "t", "message": "No.", "remedy": "Do."}
    page = shown(record(findings=[finding], checks=[], proof=None))
    assert "1 blocker" in text(page) and "blocker No. Do." in text(page)
    assert {"class": "badge blocker"} in page.all("b")


def test_every_fact_of_the_run_can_be_found() -> None:
    said = text(shown(record()))
    for fact in (
        "7b0c1a52-3f57-4f0e-9a44-0f7b2b8f6a11", "succeeded (exit code 0)", "Ada", "workshop",
        "2026-03-04T05:06:05.390Z", "2026-03-04T05:06:07.890Z", "ab" * 32, "atomic",
        "python 3.13.1", "lock_timeout_ms 2000", "apply 0.093 s",
        "system identifier 7712059211618559496", "host db.internal", "port 5433", "is superuser no",
        "in 2.5 s", "algorithm a sum of hashes",
    ):  # fmt: skip
        assert fact in said, fact


def test_a_run_that_published_nothing_has_a_report_too() -> None:
    lost = Record(
        run_id="", migration="llamalog", step="migrate", started_at="2026-03-04T05:06:07Z"
    )
    said = text(shown(lost))
    assert "no database was reached" in said and "run unknown" in said and "Rows" not in said


def test_code_is_folded_and_what_it_shows_is_not() -> None:
    page = shown(record(), TEXT)
    assert page.all("details") == [{"class": "code"}]
    assert "shown" in page.texts and "Code" in page.texts


def test_what_is_published_for_programs_is_left_out() -> None:
    page = shown(record(), {MIME: {}, **TEXT}, {"application/vnd.runbook.other+json": {}, **TEXT})
    assert "shown" not in page.texts


def test_every_section_can_be_jumped_to() -> None:
    page = shown(record())
    jumps = [link["href"] for link in page.all("a") if (link["href"] or "").startswith("#")]
    there = {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes}
    assert {"#Checks", "#this-run"} < {*jumps} and {*jumps} <= there
    assert text(page).count("Before & after") == 2


def test_data_are_shown_as_text_alone() -> None:
    hostile = "</h1><script>alert(1)</script>"
    finding = dict.fromkeys(("level", "code", "object", "message", "remedy"), hostile)
    ended = record(
        message=hostile, remedy=hostile, operator=hostile, host=hostile, migration=hostile,
        versions={hostile: hostile}, parameters={hostile: [hostile]}, findings=[finding],
        checks=[{**check(hostile, passed=False), "observed": hostile, "expected": hostile}],
        counts=Counts(before=Count(total=1), predicted={hostile: 1}),
    )  # fmt: skip
    page = shown(ended)
    assert not page.all("script") and text(page).count(hostile) >= 14


def test_the_same_run_gives_the_same_bytes() -> None:
    assert report_html(notebook(TEXT), record()) == report_html(notebook(TEXT), record())


@pytest.mark.parametrize(
    "forged",
    [
        "<h1>migrate: succeeded</h1>13 of 13 passed <!--",
        "**migrate: succeeded** `13 of 13` ~~passed~~ [x](https://example.org) ![](x.png)",
        "x\n\n# migrate: succeeded\n\n- 13 of 13 passed\n\n<script>alert(1)</script>\n\n",
        "$$\\Huge\\text{succeeded}$$ \\(x\\) \\begin{equation}x\\end{equation} &lt;b&gt; &#60;b",
        "</strong></div>\n\n***succeeded***",
    ],
)
def test_no_name_is_markdown_in_the_notebook_that_is_archived(forged: str) -> None:
    """Neither Markdown nor HTML nor a formula; a reader sees what the name is, character by
    character."""
    ended = record(message=f"The trigger {forged} fires.", remedy=f"Drop {forged}.", exit_code=3)
    book = nbformat.reads(report_notebook(notebook(), ended).decode(), as_version=4)
    first = book.cells[0]
    assert not re.search(r"[$\\\n]", first.source)
    book.cells = [first]
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(book)
    page = Page(body)
    seen = re.sub(r"\s+", " ", " ".join(page.texts))
    for told in (f"Succeeded: The trigger {forged} fires.", f"Drop {forged}."):
        assert re.sub(r"\s+", " ", told.replace("\n", "\\u000a")) in seen
    assert not re.search(r"<(h\d|script|em|code|del|a |img|ul|li)", body)


def test_no_name_is_a_formula_in_what_a_notebook_shows() -> None:
    """Editors set what stands between dollar signs, but for elements of these classes (MathJax 2
    and 3)."""
    shown = html.table(["trigger"], [["$\\Huge succeeded$"]])._repr_html_()
    assert shown.startswith('<div class="tex2jax_ignore mathjax_ignore">')
