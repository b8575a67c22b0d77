"""The frame of every HTML page: self-contained, no network, light and dark, printable."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from runbook.numbers import share
from runbook.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def render(template: str, **values: object) -> bytes:
    """Return a page in UTF-8, made by one of this package's templates.

    Every value is escaped, but for what is `markupsafe.Markup`. Raises `jinja2.UndefinedError` if
    the template asks for a value that is not given.
    """
    return load_template(template).render(**values).encode()


def load_template(name: str) -> "Template":
    """Return a template of this package, compiled once in a process."""
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    """Return what renders; jinja2 is loaded only where a page is made."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("runbook.report"),
        autoescape=True,
        undefined=StrictUndefined,
        # Markup was made by `html`, which has shown what it holds.
        finalize=lambda value: visible(value, lines=True) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = _number
    made.filters["share"] = share
    css = resources.files("runbook.report").joinpath("page.css").read_text("utf-8")
    made.globals["css"] = Markup(css)
    return made


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
