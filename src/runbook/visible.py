"""Text that others wrote, shown as it is: a terminal only prints it, a page only contains it.

A title in a spec, a name or a value in a database may hold control characters: an escape sequence
that clears the screen and writes another outcome, a mark that turns the order of what follows
around; or characters that nobody sees, by which two names look alike. They are shown by their
numbers, as JSON writes them.
"""

import re
import unicodedata
from functools import cache

# Of Unicode's categories: controls, marks of format (what turns the direction, joins, or has no
# width), the line ends that only some programs take for such, and what is no character at all.
_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})

# What else a font shows nothing for, and `unicodedata` does not tell: letters, marks and places
# kept for more (Default_Ignorable_Code_Point, DerivedCoreProperties.txt), an empty Braille pattern.
_IGNORABLE = re.compile(
    "[\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u2065\\u2800\\u3164\\ufe00-\\ufe0f\\uffa0"
    "\\ufff0-\\ufff8\\U000e0000-\\U000e0fff]"
)
_UNUSUAL = re.compile("[^ -~]")


def visible(text: str, *, lines: bool = False) -> str:
    """Return a text with its control characters as `\\u001b`, in time that grows with its length.

    With `lines` it may have line breaks and tabs; else these are shown by their numbers, too, so
    that no second line can be forged.
    """
    kept = "\t\n" if lines else ""
    return _UNUSUAL.sub(
        lambda found: found[0] if found[0] in kept or not is_hidden(found[0]) else number(found[0]),
        text,
    )


@cache
def is_hidden(character: str) -> bool:
    """Return whether a character is a control, line breaks and tabs too, or is not seen."""
    return unicodedata.category(character) in _CATEGORIES or bool(_IGNORABLE.match(character))


def number(character: str) -> str:
    """Return a character's number as JSON writes it; of one above U+FFFF, of its two halves."""
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
