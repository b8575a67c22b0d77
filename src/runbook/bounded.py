"""Reading files that somebody else made: no more of them than such a file can be large."""

from pathlib import Path

TEXT_BYTES = 4 * 2**20
"""The most that a spec, a fleet's file or a key may be: a spec of a thousand rules has 0.1 MB."""

MANIFEST_BYTES = 64 * 2**20
"""The most that a manifest, a plan or a note of an archive may be: that of an online run of hours
has 1 MB."""


class TooLarge(ValueError):
    """A file is larger than such a file can be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"is larger than {most // 2**20} MB")


def read_text(path: Path) -> str:
    """Return a file's text, in UTF-8.

    Raises `TooLarge`, `UnicodeDecodeError`, and `OSError` where it cannot be read. A device or a
    sparse file is read no further than a file may be large.
    """
    with path.open("rb") as file:
        data = file.read(TEXT_BYTES + 1)
    if len(data) > TEXT_BYTES:
        raise TooLarge(TEXT_BYTES)
    return data.decode("utf-8")
