"""The pages of an archive in a browser without network: nothing is asked for, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.report.index import index_page
from tests.report.browser import Browser, browser, needs_chromium
from tests.report.records import manifest

pytestmark = needs_chromium

PAGES = ("review", "refused", "migrate", "index")

FOLDED = """[...document.querySelectorAll('details:not(.code)')].map(
    details => details.lastElementChild.checkVisibility())"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this file."""
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


def address(bundles: dict[str, Path], page: str) -> str:
    """Return where a report is, or the archive's front page."""
    if page == "index":
        return (bundles["migrate"].parent / "index.html").as_uri()
    return (bundles[page] / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(
    page: str, dark: bool, bundles: dict[str, Path], chromium: Browser
) -> None:
    chromium.open(address(bundles, page), dark=dark)
    assert chromium.requests == [] and chromium.complaints == []
    paper = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark
    assert chromium.value("[...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_its_window(
    page: str, width: int, bundles: dict[str, Path], chromium: Browser
) -> None:
    chromium.open(address(bundles, page), width=width)
    assert not chromium.scrolls_sideways
    chromium.value("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert not chromium.scrolls_sideways


def test_an_archive_of_300_runs_with_long_names_fits_its_window(
    tmp_path: Path, chromium: Browser
) -> None:
    one = manifest(message="word" * 60, operator="o" * 40, migration="m" * 40)
    one["database"] |= {"name": "d" * 63, "host": "/" + "h" * 100}
    one |= {"outcome": "rolled-back", "exit_code": 5}
    (tmp_path / "index.html").write_bytes(index_page([(f"run-{n}", one) for n in range(300)]))
    for width in (1280, 390):
        chromium.open((tmp_path / "index.html").as_uri(), width=width)
        assert not chromium.scrolls_sideways


def test_the_first_screen_shows_outcome_counts_proof_and_checks(
    bundles: dict[str, Path], chromium: Browser
) -> None:
    chromium.open(address(bundles, "migrate"), width=1280, height=800)
    for part in ("h1.outcome", ".tiles", "table.rows", ".proof", ".checks"):
        bottom = chromium.value(f"document.querySelector('{part}').getBoundingClientRect().bottom")
        assert 0 < bottom <= 800, part
    shown = chromium.value("document.querySelector('main').innerText")
    assert shown.startswith("Succeeded: ")


def test_what_is_folded_on_screen_is_printed(bundles: dict[str, Path], chromium: Browser) -> None:
    chromium.open(address(bundles, "migrate"))
    on_screen = chromium.value(FOLDED)
    # The statements, their settings being one row, and 13 checks.
    assert len(on_screen) == 46 and not any(on_screen)
    chromium.show_as("print")
    assert chromium.value(FOLDED) == [True] * 46
    said = chromium.value("document.querySelector('.print-only').innerText")
    assert "report.ipynb" in said


def test_every_link_of_a_page_leads_somewhere(bundles: dict[str, Path], chromium: Browser) -> None:
    for page in PAGES:
        chromium.open(address(bundles, page))
        links = chromium.value("[...document.links].map(link => link.href)")
        assert links
        for link in links:
            file, _, anchor = link.partition("#")
            assert file.startswith("file://") and Path(file.removeprefix("file://")).is_file(), link
            if anchor:
                assert chromium.value(f"document.getElementById(decodeURI('{anchor}')) !== null")


@pytest.mark.parametrize(
    "markup",
    [
        "<img src='http://127.0.0.1:1/picture.png'>",
        "<link rel='stylesheet' href='http://name.invalid/style.css'>",
    ],
)
def test_a_page_that_asks_for_something_is_found_out(
    markup: str, tmp_path: Path, chromium: Browser
) -> None:
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><title>x</title>{markup}")
    chromium.open((tmp_path / "page.html").as_uri())
    assert len(chromium.requests) == 1 and chromium.requests[0] in markup
    assert chromium.complaints


def test_hidden_markup_in_a_report_is_blocked_and_found_out(
    bundle: Path, tmp_path: Path, chromium: Browser
) -> None:
    whole = (bundle / "report.html").read_text("utf-8")
    hidden = "<img src='http://127.0.0.1:1/picture.png'><script>document.title = 'ran'</script>"
    (tmp_path / "page.html").write_text(whole.replace("</main>", f"{hidden}</main>"), "utf-8")
    chromium.open((tmp_path / "page.html").as_uri())
    assert chromium.complaints and chromium.value("document.title") != "ran"


def test_a_page_that_is_too_wide_is_found_out(tmp_path: Path, chromium: Browser) -> None:
    (tmp_path / "page.html").write_text("<!DOCTYPE html><div style='width:1281px'>x</div>")
    chromium.open((tmp_path / "page.html").as_uri())
    assert chromium.scrolls_sideways
