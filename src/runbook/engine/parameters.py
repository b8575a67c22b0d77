"""Taking what is secret out of a notebook before anything is written of it.

Papermill puts parameters into the notebook twice, into its metadata and into a cell of their own,
before it calls an engine; its first write comes later, from the engine. This stands between the
two. (With `--prepare-only` papermill writes the file without calling any engine.)
"""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from papermill.translators import papermill_translators

from runbook.database import ARCHIVING, HIDDEN_URL, is_reference
from runbook.secrets import Scrubber, find, scrubber_for

SAFE_PATH = "PYTHONSAFEPATH"
"""By it neither a kernel nor a process that it starts, a fleet's worker say, looks for modules in
the current folder: that is data, such as the checkout of a stranger's specs."""

HIDDEN = "hidden"
"""What stands for the value of a parameter that the notebook does not know."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a kernel needs of a notebook from which the secrets were taken."""

    scrubber: Scrubber
    environment: dict[str, str]
    """The kernel's: it holds the database URL that the notebook only refers to."""
    sources: dict[int, str]
    """The real source of each cell, by its place, that is shown otherwise than it runs."""


def take_secrets(nb: NotebookNode, kernel_name: str) -> Prepared:
    """Take every secret out of a notebook; return what makes it run all the same."""
    given = nb.metadata.setdefault("papermill", {}).get("parameters", {})
    environment = os.environ | {ARCHIVING: "yes", SAFE_PATH: "1"}
    values = list(_texts(given))
    url = given.get("database_url")
    if isinstance(url, str) and not is_reference(url):
        environment[HIDDEN_URL] = url
        given["database_url"] = f"env:{HIDDEN_URL}"
    known_names = _parameter_names(nb)
    for name in given:
        if name not in known_names and any(_texts(given[name])):
            given[name] = HIDDEN  # most likely a URL under a misspelt name
    own = [cell.source for cell in nb.cells if not _has_tag(cell, "injected-parameters")]
    scrubber = scrubber_for(values, sources=own, public=_public(own), environment=environment)
    scrubber.into(given)
    if given:
        translator = papermill_translators.find_translator(kernel_name, "python")
        for cell in nb.cells:
            if _has_tag(cell, "injected-parameters"):
                cell.source = translator.codify(_plain(given), "Parameters")
    sources = {
        place: cell.source
        for place, cell in enumerate(nb.cells)
        if cell.cell_type == "code" and scrubber.text(cell.source) != cell.source
    }
    scrubber.into(nb)
    return Prepared(scrubber=scrubber, environment=environment, sources=sources)


def _has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _public(sources: list[str]) -> list[str]:
    """Return the sources as everybody may read them: without the passwords in their URLs."""
    masking = Scrubber(find((), {}, sources), sources)
    return [masking.text(source) for source in sources]


def _parameter_names(nb: NotebookNode) -> set[str]:
    """Return the names that the parameters cell defines."""
    names: set[str] = set()
    for cell in nb.cells:
        if _has_tag(cell, "parameters"):
            try:
                nodes = list(ast.walk(ast.parse(cell.source)))
            except SyntaxError:  # the kernel says so better
                continue
            names.update(
                node.id
                for node in nodes
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )
    return names


def _texts(tree: Any) -> Iterator[str]:
    """Yield every text in a parameter's value."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _texts(item)


def _plain(tree: Any) -> Any:
    """Return a notebook's nodes as plain dicts, which papermill's translators expect."""
    if isinstance(tree, dict):
        return {key: _plain(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(item) for item in tree]
    return tree
