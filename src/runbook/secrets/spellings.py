"""How a secret may be spelt in what a program writes."""

import base64
import html
import json
import unicodedata
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 4
"""Below this length a spelling is no trace of a secret, but chance."""


def spellings(secret: str) -> tuple[str, ...]:
    """Return every spelling of a secret, the longest first, so that none leaves a rest of another.

    Plain, normalised, percent-encoded, as an HTML, JSON, Python or SQL text, as bytes that were
    decoded by another character set, in hexadecimal, and in Base64 wherever it may begin in a
    longer text.
    """
    found = {secret}
    for form in ("NFC", "NFD"):
        found.add(unicodedata.normalize(form, secret))
    for text in tuple(found):
        found.update(_encoded(text))
    # Text in text: JSON in JSON, a repr that is escaped for HTML.
    for text in tuple(found):
        found.update((html.escape(text), json.dumps(text)[1:-1], repr(text)[1:-1]))
    usable = {text for text in found if len(text) >= min(SHORTEST, len(secret))}
    return tuple(sorted(usable, key=lambda text: (-len(text), text)))


def _encoded(text: str) -> Iterator[str]:
    """Yield a text's encodings."""
    data = text.encode("utf-8", errors="surrogateescape")
    for escaped in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield escaped
        yield _lower_hex(escaped)
    yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (repr(text)[1:-1], ascii(text)[1:-1], repr(data)[2:-1])
    for escaped in (html.escape(text), html.escape(text, quote=False)):
        yield escaped
        yield escaped.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        yield escaped.replace("&#x27;", "&#39;")
    yield text.replace("'", "''")
    yield text.replace("\\", "\\\\").replace("'", "\\'")  # a connection string's escapes
    yield data.decode("latin-1")
    yield data.decode("cp1252", errors="replace")
    yield data.hex()
    yield from _base64(data)


def _lower_hex(escaped: str) -> str:
    """Return percent-encoded text with small hexadecimal digits."""
    head, *rest = escaped.split("%")
    return "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _base64(data: bytes) -> Iterator[str]:
    """Yield what Base64 makes of data at each of its three possible places in a longer text.

    Only the characters that depend on the data alone are kept.
    """
    for before in range(3):
        code = base64.b64encode(bytes(before) + data).decode()
        sure = code[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(sure) > 2 * SHORTEST:
            yield sure
            yield sure.replace("+", "-").replace("/", "_")
    if len(data) >= SHORTEST:
        yield base64.b64encode(data).decode()
