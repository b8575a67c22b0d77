"""Pieces of HTML for notebooks: tables by pandas, everything escaped, with a plain-text twin.

They are shown in two places: in a report, where `page.css` dresses them, and below a notebook's
cells in an editor, which brings styles of its own. What must not depend on either, such as the
side on which text stands, is written into the piece itself.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any
from urllib.parse import quote

from runbook.numbers import share
from runbook.visible import visible

_WORD = 20
"""Up to this length a text without spaces is never broken into lines."""

_LINE = 60
"""Up to this length an answer stays in one line."""

_WHITESPACE = re.compile(r'<span class="w">(\s+)</span>')

_LEFT = "text-align:left"
_CODE = f"{_LEFT};white-space:pre-wrap;margin:0"
_ASIDE = "opacity:.75;font-size:.93em"
_BAR = (
    "display:inline-block;height:.75em;margin-right:.4em;border-radius:2px;"
    "background:#8fb9de;width:"
)
_BAR_EM = 7.0
"""The width of a bar that is all of the whole."""
_PROGRESS = "width:16em;height:1em;vertical-align:middle"
_PANDAS = Lock()
"""Held while pandas works under an option of its own: options are a process's, not a thread's."""
_BORDERS = {"good": "#2f9e62", "bad": "#d9463c", "plain": "#8894a4"}


_NO_FORMULA = "tex2jax_ignore mathjax_ignore"
"""In elements of these classes an editor's MathJax, 2 or 3, takes no dollar sign for a formula."""


class Fragment:
    """Something to display: HTML where it can be shown, text elsewhere."""

    def __init__(self, markup: str, text: str) -> None:
        self.markup = visible(markup, lines=True)
        self.text = visible(text, lines=True)

    def _repr_html_(self) -> str:
        return f'<div class="{_NO_FORMULA}">{self.markup}</div>'

    def as_markdown(self) -> str:
        """Return it as the source of a Markdown cell, in which nothing is Markdown.

        A block of HTML ends at the first blank line (CommonMark, 4.6), so it is one line; and
        editors look for formulas before they look for HTML.
        """
        markup = visible(self._repr_html_())
        return markup.replace("\\", "&#92;").replace("$", "&#36;")

    def __repr__(self) -> str:
        return self.text


class Aside(str):
    """Text that a table shows with less weight than what stands beside it."""

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        return f'<span class="mute" style="{_ASIDE}">{html.escape(self)}</span>'


class Code(str):
    """Text that a table shows as code, with its line breaks."""

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        # An entity, since pandas would make of two spaces what PostgreSQL does not take for any.
        code = self.coloured().replace("  ", " &#32;")
        return f'<pre class="highlight" style="{_CODE}">{code}</pre>'

    def coloured(self) -> str:
        """Return it as escaped HTML."""
        return html.escape(self)


class Sql(Code):
    """SQL that a table shows in colours."""

    def coloured(self) -> str:
        return _highlighted(str(self))


@dataclass(frozen=True)
class Folded:
    """A line with code behind it, to be unfolded; as text it is the line alone."""

    line: str
    code: Code

    def __str__(self) -> str:
        return self.line

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        shown, code = html.escape(self.line), self.code.markup()
        return f'<details class="sql"><summary>{shown}</summary>{code}</details>'


@dataclass(frozen=True)
class Bar:
    """A share of a whole, as a bar with its figure; as text it is the figure alone."""

    part: int
    whole: int

    def __str__(self) -> str:
        return share(self.part, self.whole)

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        # The smallest share is seen, too.
        width = max(self.part / self.whole * _BAR_EM, 0.1) if self.part else 0.0
        return f'<span class="word"><span style="{_BAR}{width:.2f}em"></span>{self}</span>'


@dataclass(frozen=True)
class Verdict:
    """Whether something passed, with a mark to find it by."""

    passed: bool
    yes: str = "passed"
    no: str = "FAILED"

    def __str__(self) -> str:
        return self.yes if self.passed else self.no

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        kind, mark = ("good", "✓") if self.passed else ("bad", "✗")
        return f'<span class="word {kind}">{mark} {html.escape(str(self))}</span>'


@dataclass(frozen=True)
class Link:
    """A name that leads elsewhere, by a relative path; as text it is the name alone."""

    name: str
    to: str

    def __str__(self) -> str:
        return self.name

    def markup(self) -> str:
        """Return it as a cell's HTML."""
        return f'<a href="{html.escape(quote(self.to))}">{html.escape(self.name)}</a>'


Dressed = Aside | Code | Folded | Bar | Verdict | Link
"""What a cell may hold beside text and numbers."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Fragment:
    """Return a table; numbers get separators and stand right, text is escaped."""
    import pandas as pd  # a third of a second, which who makes no table need not wait

    if not rows:
        return Fragment('<p class="runbook-none">None.</p>', "None.")
    numeric = [_is_numeric([row[n] for row in rows]) for n in range(len(columns))]
    heads = _aligned([html.escape(name) for name in columns], numeric)
    cells = [_aligned([_cell(item) for item in row], numeric) for row in rows]
    with _PANDAS, pd.option_context("display.max_colwidth", None):
        markup = pd.DataFrame(cells, columns=heads).to_html(
            index=False,
            border=0,
            escape=False,
            # As they are: by itself pandas shows a line break or a tab in a cell as an escape.
            formatters=[str] * len(columns),
            classes=["runbook", *(f"right-{n + 1}" for n, right in enumerate(numeric) if right)],
        )
        text = pd.DataFrame(
            [[_text(item) for item in row] for row in rows], columns=list(columns)
        ).to_string(index=False)
    return Fragment(markup, text)


def facts(items: Mapping[str, object]) -> Fragment:
    """Return names and values as a two-column table without a head."""
    body = "".join(
        f'<tr><th style="{_LEFT}">{html.escape(name)}</th>'
        f'<td style="{_LEFT}">{_cell(item)}</td></tr>'
        for name, item in items.items()
    )
    text = "\n".join(f"{name}: {_text(item)}" for name, item in items.items())
    return Fragment(f'<table class="runbook facts"><tbody>{body}</tbody></table>', text)


def line(text: str) -> Fragment:
    """Return a line of text."""
    return Fragment(f"<p>{html.escape(text)}</p>", text)


def progress(text: str, share: float) -> Fragment:
    """Return how far something is, from 0 to 1, as a bar with what is done now; as text the latter
    alone."""
    bar = f'<progress max="1" value="{share:.3f}" style="{_PROGRESS}"></progress>'
    return Fragment(f"<p>{bar} {share:.0%} – {html.escape(text)}</p>", text)


def banner(kind: str, headline: str, detail: str) -> Fragment:
    """Return a headline in a coloured box; `kind` is good, bad or plain."""
    style = f"border-left:5px solid {_BORDERS[kind]};padding:.5em 1em"
    below = f"<p>{html.escape(detail)}</p>" if detail else ""
    return Fragment(
        f'<div class="runbook-banner {kind}" style="{style}">'
        f"<strong>{html.escape(headline)}</strong>{below}</div>",
        f"{headline}\n{detail}".rstrip(),
    )


def as_json(value: Any) -> Code:
    """Return an expected or observed answer as code; a long one has a line for each of its parts,
    so that two of them can be compared side by side."""
    if isinstance(value, str):
        return Code(value)
    short = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(short) <= _LINE or not isinstance(value, dict):
        return Code(short)
    parts = (
        f"{json.dumps(name, ensure_ascii=False)}: "
        f"{json.dumps(part, ensure_ascii=False, sort_keys=True)}"
        for name, part in sorted(value.items())
    )
    return Code("{" + ",\n ".join(parts) + "}")


def _is_numeric(column: list[object]) -> bool:
    """Return whether a column holds numbers, some of which may be missing."""
    known = [item for item in column if item is not None]
    return bool(known) and all(isinstance(item, int | float) for item in known)


def _aligned(line: Sequence[str], numeric: Sequence[bool]) -> list[str]:
    """Return a table's line with text on the left, wherever it is shown."""
    return [
        markup if right else f'<div style="{_LEFT}">{markup}</div>'
        for markup, right in zip(line, numeric, strict=True)
    ]


def _cell(item: object) -> str:
    """Return one table cell's HTML; a tuple's items stand below each other."""
    if isinstance(item, tuple):
        return "<br>".join(_cell(part) for part in item).replace("</pre><br>", "</pre>")
    if isinstance(item, Dressed):
        return item.markup()
    text = html.escape(_text(item))
    is_word = isinstance(item, str) and len(item) <= _WORD and " " not in item
    return f"<span class='word'>{text}</span>" if is_word else text


@cache
def _highlighted(sql: str) -> str:
    """Return SQL as escaped HTML, its words in spans that a style sheet colours."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PostgresLexer

    markup = highlight(sql, PostgresLexer(stripnl=False), HtmlFormatter(nowrap=True))
    return _WHITESPACE.sub(r"\1", markup).rstrip()


def _text(item: object) -> str:
    """Return one table cell as plain text."""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:,.1f}"
    if isinstance(item, tuple):
        return " ".join(_text(part) for part in item)
    return "–" if item is None else str(item)
