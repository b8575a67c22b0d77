"""Pieces of HTML for notebooks: tables by pandas, everything escaped, with a plain-text twin."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_WORD = 20
"""Up to this length a text without spaces is never broken into lines."""


class Fragment:
    """Something to display: HTML where it can be shown, text elsewhere."""

    def __init__(self, markup: str, text: str) -> None:
        self.markup = markup
        self.text = text

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Fragment:
    """Return a table; numbers get separators and stand right, text is escaped."""
    if not rows:
        return Fragment('<p class="runbook-none">None.</p>', "None.")
    cells = [[_cell(item) for item in row] for row in rows]
    numeric = [_is_numeric([row[n] for row in rows]) for n in range(len(columns))]
    with pd.option_context("display.max_colwidth", None):
        markup = pd.DataFrame(cells, columns=list(columns)).to_html(
            index=False,
            border=0,
            escape=False,
            classes=["runbook", *(f"right-{n + 1}" for n, right in enumerate(numeric) if right)],
        )
        text = pd.DataFrame(
            [[_text(item) for item in row] for row in rows], columns=list(columns)
        ).to_string(index=False)
    return Fragment(markup, text)


def facts(items: Mapping[str, object]) -> Fragment:
    """Return names and values as a two-column table without a head."""
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{_cell(item)}</td></tr>"
        for name, item in items.items()
    )
    text = "\n".join(f"{name}: {_text(item)}" for name, item in items.items())
    return Fragment(f'<table class="runbook facts"><tbody>{body}</tbody></table>', text)


def line(text: str) -> Fragment:
    """Return a line of text."""
    return Fragment(f"<p>{html.escape(text)}</p>", text)


def banner(kind: str, headline: str, detail: str) -> Fragment:
    """Return a headline in a coloured box; `kind` is good, bad or plain."""
    return Fragment(
        f'<div class="runbook-banner {kind}"><strong>{html.escape(headline)}</strong>'
        f"<p>{html.escape(detail)}</p></div>",
        f"{headline}\n{detail}",
    )


class Code(str):
    """Text that a table shows as code, with its line breaks."""


def _is_numeric(column: list[object]) -> bool:
    """Return whether a column holds numbers, some of which may be missing."""
    known = [item for item in column if item is not None]
    return bool(known) and all(isinstance(item, int | float) for item in known)


def _cell(item: object) -> str:
    """Return one table cell's HTML; a tuple's items stand below each other."""
    if isinstance(item, tuple):
        return "<br>".join(_cell(part) for part in item).replace("</pre><br>", "</pre>")
    if isinstance(item, Code):
        # An entity, since pandas would print a line break in a cell as the two characters \\n.
        return f"<pre>{html.escape(item)}</pre>".replace("\n", "&#10;")
    text = html.escape(_text(item))
    is_word = isinstance(item, str) and len(item) <= _WORD and " " not in item
    return f"<span class='word'>{text}</span>" if is_word else text


def _text(item: object) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:,.1f}"
    if isinstance(item, tuple):
        return " ".join(_text(part) for part in item)
    return "–" if item is None else str(item)


def as_json(value: Any) -> Code:
    """Return an expected or observed answer as code."""
    return Code(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    )
