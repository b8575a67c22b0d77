"""The notebooks in JupyterLab, as a person runs them: with the mouse, from top to bottom."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.lab import LAB, ROOT, jupyterlab
from tests.notebook.papermilling import FOLDER, read
from tests.report.browser import Browser, browser, needs_chromium

pytestmark = [pytest.mark.soak, needs_chromium]

NOT_WINDOWED = {"windowingMode": "none"}
"""Have JupyterLab keep every cell in the page, so that all of it can be looked at."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """Install JupyterLab as `make lab` does, where it is not yet."""
    if not LAB.exists():
        subprocess.run(["make", ".venv-lab/installed"], cwd=ROOT, check=True)


@pytest.fixture
def lab(sample_newest: Database, tmp_path: Path) -> Iterator[tuple[Browser, str, Path]]:
    """A browser, JupyterLab's address, and its folder with the notebooks."""
    folder, scratch = tmp_path / "notebooks", tmp_path / "scratch"
    shutil.copytree(FOLDER, folder)
    settings = scratch / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(NOT_WINDOWED))
    more = {
        "JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"),
        "DATABASE_URL": sample_newest.url,
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src")),
    }
    with (
        jupyterlab(folder, scratch, **more) as address,
        browser(tmp_path / "profile", alone=False) as page,
    ):
        yield page, address, folder


def test_a_person_reviews_approves_and_migrates(
    lab: tuple[Browser, str, Path], sample_newest: Database, tmp_path: Path
) -> None:
    page, address, folder = lab
    open_notebook(page, address, "01_review.ipynb")
    run_all(page, "Succeeded: EnrichmentLog → LlamaLog can run")
    (sha256,) = set(re.findall(r"its plan is ([0-9a-f]{64})", text_of(page)))
    look(page, tmp_path / "review")
    saved(page, folder / "01_review.ipynb", sha256)

    open_notebook(page, address, "02_migrate.ipynb")
    paste(page, "approved_plan", sha256)
    run_all(page, "EnrichmentLog → LlamaLog is applied: 4,052 rows before and after")
    look(page, tmp_path / "migrate")
    assert "Approved this plan" in " ".join(text_of(page).split())
    assert sample_newest.value("SELECT count(*) FROM llama_logs WHERE category IS NOT NULL") == 4052


def open_notebook(page: Browser, address: str, name: str) -> None:
    """Open a notebook, and wait for its kernel."""
    page.open(f"{address}lab/tree/{name}?reset", width=1400, height=900)
    page.until("!!document.querySelector('.jp-Notebook .jp-CodeCell .cm-line')", patience_s=120)
    page.until(
        "/\\| Idle/.test(document.querySelector('#jp-bottom-panel, .jp-StatusBar-Widget, body')"
        ".innerText) || document.body.innerText.includes('| Idle')",
        patience_s=120,
    )


def run_all(page: Browser, until: str) -> None:
    """Choose Run → Run All Cells, and wait for what is shown at the end."""
    choose(page, "Run", "Run All Cells")
    page.until(f"{OUTPUTS}.innerText.includes({json.dumps(until)})", patience_s=120)


def choose(page: Browser, menu: str, item: str) -> None:
    """Open a menu and choose an item of it. A click that comes before JupyterLab listens opens
    nothing, and is done again, as a person does."""
    entry = labelled(".lm-Menu-itemLabel", item)
    for _ in range(10):
        page.click(labelled(".lm-MenuBar-itemLabel", menu))
        opened = (
            f"(() => {{ const e = {entry}; return !!e && e.getBoundingClientRect().width > 0 }})()"
        )
        if page.value(f"new Promise(done => setTimeout(() => done({opened}), 500))"):
            page.click(entry)
            return
    raise AssertionError(f"the menu {menu} does not open")


OUTPUTS = "document.querySelector('.jp-Notebook')"


def labelled(selector: str, text: str) -> str:
    """Return the expression for an element by its text."""
    return (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find(e => e.textContent === {json.dumps(text)})"
    )


def paste(page: Browser, parameter: str, value: str) -> None:
    """Click between the quotes of a parameter's default, and write a value there."""
    x, y = page.value(
        "(() => { const line = [...document.querySelectorAll('.cm-line')]"
        f".find(e => e.textContent.startsWith('{parameter}:'));"
        "line.scrollIntoView({block: 'center'});"
        "const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);"
        "let node; while ((node = walker.nextNode()) && !node.data.includes('\"\"'));"
        "const range = document.createRange(); const at = node.data.indexOf('\"\"') + 1;"
        "range.setStart(node, at); range.setEnd(node, at);"
        "const r = range.getBoundingClientRect(); return [r.x, r.y + r.height / 2]; })()"
    )
    page.click_at(x, y)
    page.write(value)
    page.until(f"document.querySelector('.jp-Notebook').innerText.includes({json.dumps(value)})")


def text_of(page: Browser) -> str:
    return str(page.value(f"{OUTPUTS}.innerText"))


def look(page: Browser, name: Path) -> None:
    """Hold what a person must see, and keep pictures of it."""
    wide = page.value(
        "[...document.querySelectorAll('.jp-OutputArea-output, .jp-MarkdownOutput')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 80))"
    )
    assert wide == [], "something scrolls sideways"
    assert page.value("document.querySelectorAll('.jp-OutputArea progress').length") >= 1
    errors = "[data-mime-type*=stderr], [data-mime-type*=error]"
    assert page.value(f"document.querySelectorAll('{errors}').length") == 0
    headings = "[...document.querySelectorAll('.jp-Notebook h2')]"
    for n in range(page.value(f"{headings}.length")):
        page.value(f"{headings}[{n}].scrollIntoView()")
        picture = Path(f"{name}-{n}.png")
        picture.write_bytes(base64.b64decode(page.picture()))
        assert picture.stat().st_size > 20_000


def saved(page: Browser, path: Path, text: str) -> None:
    """Save by the menu, and hold that the file has what was shown."""
    choose(page, "File", "Save Notebook")
    until = time.monotonic() + 30
    while not _holds(path, text):
        assert time.monotonic() < until, "it was not saved"
        page.value("new Promise(done => requestAnimationFrame(done))")


def _holds(path: Path, text: str) -> bool:
    if not path.read_text("utf-8").rstrip().endswith("}"):
        return False  # it is just being written
    cells: list[dict[str, Any]] = read(path).cells
    return any(text in json.dumps(cell.get("outputs", [])) for cell in cells)
