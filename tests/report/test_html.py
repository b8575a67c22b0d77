"""The HTML report of a real run over hostile data: one file, no network, nothing runs."""

import re
from pathlib import Path

import pytest

from tests.report.conftest import HOSTILE, OTHERS
from tests.report.page_reader import Page, first_text

COUNTS = {"ENRICHED": 3770, "CREATED": 266, "CORRECTED": 15, "CACHED": 1, "FAILED": 0}


@pytest.fixture(scope="module")
def markup(bundle: Path) -> str:
    """The report's text."""
    return (bundle / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(markup: str) -> Page:
    """The report as a browser reads it."""
    return Page(markup)


def test_nothing_in_it_refers_to_a_host(page: Page) -> None:
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name) or ""
            assert not re.match(r"\s*(?:[a-z]+:)?//", target, re.I), (tag, target)
        assert "url(" not in (attributes.get("style") or "")
        assert not [name for name in attributes if name.startswith("on")], tag
    css = "".join(page.styles)
    assert "@import" not in css and not re.search(r"url\(\s*['\"]?(?!data:)", css)


def test_a_policy_forbids_to_load_and_to_run_anything(page: Page) -> None:
    (policy,) = (
        meta["content"]
        for meta in page.all("meta")
        if (meta.get("http-equiv") or "").lower() == "content-security-policy"
    )
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
    }


def test_every_chart_says_in_words_what_it_shows(page: Page) -> None:
    images = page.all("img")
    assert images
    for image in images:
        alt = image.get("alt") or ""
        assert (image.get("src") or "").startswith("data:image/png;base64,")
        assert all(f"{label} {rows:,} predicted" in alt for label, rows in COUNTS.items())
    assert "FAILED 0 predicted and 0 after" in (images[-1].get("alt") or "")


def test_it_is_small_enough_to_be_sent(markup: str) -> None:
    assert len(markup.encode()) <= 600_000


def test_hostile_data_is_shown_as_text_alone(bundle: Path, markup: str, page: Page) -> None:
    for value in (HOSTILE, OTHERS):
        assert value not in markup
        assert any(value in text for text in page.texts), value
    assert first_text(markup).startswith(f"Succeeded: {HOSTILE} is applied")
    assert HOSTILE not in (bundle.parent / "index.html").read_text("utf-8")
