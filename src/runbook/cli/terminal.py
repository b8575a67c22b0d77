"""Telling a person something on the terminal, and nothing but that: see `runbook.visible`."""

import json
from typing import Any

import click

from runbook.visible import visible


def say(text: str = "", *, err: bool = False, after: str = "", **style: Any) -> None:
    """Print a line; `style` is that of `click.style`, and `after` follows it without one."""
    shown = visible(text)
    click.echo((click.style(shown, **style) if style else shown) + visible(after), err=err)


def say_json(content: object) -> None:
    """Print an object as JSON, in one line of standard output."""
    write(visible(json.dumps(content, ensure_ascii=False, default=dict)) + "\n")


def write(text: str) -> None:
    """Write a text to standard output as it is, in UTF-8, wherever that leads: the same bytes in a
    file as on a terminal."""
    click.echo(text.encode(), nl=False)
