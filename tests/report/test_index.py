"""The archive's front page: every bundle, and at a glance what went wrong."""

import re
from typing import Any

from runbook.report.index import index_page
from tests.report.page_reader import Page
from tests.report.records import Manifest, check, manifest


def shown(*bundles: tuple[str, Manifest]) -> Page:
    """Return the page of some bundles."""
    return Page(index_page(bundles).decode())


def text(page: Page) -> str:
    """Return all that a reader sees."""
    return re.sub(r"\s+", " ", " ".join(page.texts))


def ended(outcome: str, exit_code: int, message: str = "", **changed: Any) -> Manifest:
    """Return the manifest of a run that ended so."""
    content = manifest(**changed)
    return content | {"outcome": outcome, "exit_code": exit_code, "message": message}


def still_open(page: Page) -> str:
    """Return what the page says of runs that were not made good."""
    found = re.search(r"not yet made good(.*?)(?:Newest run|All runs)", text(page))
    return found[1] if found else ""


def test_a_line_says_outcome_migration_database_counts_and_links_to_the_files() -> None:
    page = shown(("one", manifest()))
    for part in ("✓ succeeded", "llamalog migrate", "shop on db.internal:5433", "4,052", "2 of 2"):
        assert part in text(page), part
    links = [attributes["href"] for attributes in page.all("a")]
    assert {*links} == {f"one/{file}" for file in
                        ("report.html", "report.ipynb", "plan.sql", "manifest.json")}  # fmt: skip


def test_a_pdf_is_linked_where_there_is_one() -> None:
    content = manifest()
    content["files"].append({"name": "report.pdf"})
    assert "one/report.pdf" in [
        attributes["href"] for attributes in shown(("one", content)).all("a")
    ]


def test_runs_stand_as_they_are_given_under_their_months() -> None:
    moments = ("2026-03-02T01:00:00Z", "2026-03-01T01:00:00Z", "2026-01-31T01:00:00Z")
    page = shown(*((str(n), manifest(finished_at=moment)) for n, moment in enumerate(moments)))
    order = ["March 2026", *(moment[:10] for moment in moments[:2]), "January 2026", "2026-01-31"]
    places = [text(page).rindex(part) for part in order]
    assert places == sorted(places)


def test_a_run_that_went_wrong_is_told_of_first_with_its_message() -> None:
    page = shown(("good", manifest(step="review")), ("bad", ended("refused", 3, "It is locked.")))
    assert "✗ refused llamalog migrate shop" in still_open(page)
    assert "It is locked." in still_open(page)
    assert "1 went wrong" in text(page)


def test_it_is_made_good_by_a_later_run_of_its_step_on_its_database_alone() -> None:
    bad = ("bad", ended("rolled-back", 5, "It is locked."))
    elsewhere = manifest()
    elsewhere["database"] |= {"name": "music"}
    assert still_open(shown(("good", manifest()), bad)) == ""
    for other in (manifest(step="verify"), manifest(migration="another"), elsewhere):
        assert "It is locked." in still_open(shown(("good", other), bad))
    assert "It is locked." in still_open(shown(bad, ("good", manifest())))


def test_a_run_that_reached_no_database_is_never_taken_for_made_good() -> None:
    bad = ended("error", 1, "The kernel ended.", database=None)
    good = manifest(database=None)
    assert "The kernel ended." in still_open(shown(("good", good), ("bad", bad)))


def test_of_many_that_went_wrong_the_newest_are_shown_and_the_rest_are_counted() -> None:
    page = shown(*((f"{n}", ended("refused", 3, f"message {n}.")) for n in range(20)))
    assert "message 11." in still_open(page) and "message 12." not in still_open(page)
    assert "8 more are in the list of all runs" in still_open(page)
    assert text(page).count("message 19.") == 1


def test_it_says_how_many_runs_ended_how() -> None:
    bad = [(f"bad{n}", ended("refused", 3)) for n in range(3)]
    page = shown(*bad, *((f"good{n}", manifest()) for n in range(4)))
    assert text(page).startswith("Archived runs 7 runs 3 refused 4 succeeded")


def test_it_says_how_far_each_database_came() -> None:
    music = manifest(step="review")
    music["database"] |= {"name": "music"}
    failed = ended("check-failed", 4, checks=[check("rules", passed=False)], step="verify")
    page = shown(("c", failed), ("b", music), ("a", manifest()), ("d", ended("refused", 3)))
    assert re.search(
        r"Migration Database Review Migrate Verify "
        r"llamalog shop on db.internal:5433 – ✓ succeeded 2026-03-04 ✗ check-failed 2026-03-04 "
        r"llamalog music on db.internal:5433 ✓ succeeded 2026-03-04 – –",
        text(page),
    )


def test_what_a_manifest_lacks_is_left_out() -> None:
    empty: Manifest = {}
    nothing: Manifest = dict.fromkeys(manifest())
    page = shown(("empty", empty), ("nothing", nothing), ("whole", manifest()))
    links = [attributes["href"] for attributes in page.all("a")]
    assert {"empty/manifest.json", "nothing/manifest.json", "whole/report.html"} <= {*links}
    assert "empty/report.html" not in links and "Without a time" in text(page)


def test_an_archive_without_runs_says_so() -> None:
    assert "None yet." in text(shown())


def test_data_are_shown_as_text_and_stay_in_their_link() -> None:
    hostile = "'><script>alert(1)</script>"
    content = ended("refused", 3, hostile, operator=hostile, migration=hostile)
    content["database"] |= {"name": hostile, "host": hostile}
    page = shown((f"{hostile}?#", content))
    assert not page.all("script")
    assert text(page).count(hostile) >= 4
    for attributes in page.all("a"):
        assert set(attributes) <= {"class", "href"}
        assert re.fullmatch(r"[\w%./-]+/[\w.]+", attributes["href"] or ""), attributes
