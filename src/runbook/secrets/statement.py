"""Other people's statements, as far as they may be shown."""

import re

_LITERAL = re.compile(r"'|\$\w*\$")
_NUMBER = re.compile(r"(?<![\w$.])\d[\d._]*")


def without_literals(statement: str) -> str:
    """Return the beginning of a statement, up to its first literal; numbers are `?`.

    What stands in quotes may be a password (`ALTER ROLE … PASSWORD '…'`) or a person's data, and
    nobody needs it to know who is in the way. Behind the first quote it cannot be told what is
    literal and what is not: a backslash means what the session's settings say, and the server cuts
    a long statement anywhere (track_activity_query_size).
    """
    shown = _LITERAL.split(statement, maxsplit=1)[0]
    line = " ".join(_NUMBER.sub("?", shown).split())
    return line if len(shown) == len(statement) else f"{line} '…'"
