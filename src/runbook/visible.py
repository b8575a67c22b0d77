"""Text that others wrote, shown as it is: a terminal only prints it, a page only contains it.

A title in a spec, a name or a value in a database may hold control characters: an escape sequence
that clears the screen and writes another outcome, a mark that turns the order of what follows
around. They are shown by their numbers, as JSON writes them.
"""

import re
from collections.abc import Callable

# C0 and C1 controls; marks that turn the direction (Unicode TR 9) or have no width; line ends that
# only some programs take for such; tags; what is no character at all.
_CONTROLS = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u2069"
    "\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\U000e0000-\\U000e007f"
)
_IN_LINES = re.compile(f"[{_CONTROLS}]")
_IN_A_LINE = re.compile(f"[{_CONTROLS}\\t\\n]")


def visible(text: str, *, lines: bool = False) -> str:
    """Return a text with its control characters as `\\u001b`, in time that grows with its length.

    With `lines` it may have line breaks and tabs; else these are shown by their numbers, too, so
    that no second line can be forged.
    """
    return (_IN_LINES if lines else _IN_A_LINE).sub(_number, text)


def has_controls(text: str) -> bool:
    """Return whether a text holds a control character other than a line break or a tab."""
    return bool(_IN_LINES.search(text))


def escaped(text: str, how: Callable[[int], str]) -> str:
    """Return a text whose control characters, but for line breaks and tabs, are written as `how`
    writes their numbers."""
    return _IN_LINES.sub(lambda found: how(ord(found[0])), text)


def _number(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
