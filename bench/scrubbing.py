"""The command `python -m bench.scrubbing`: how long it takes to take secrets out of output.

Each shape is what makes a search that looks at a character twice slow: 120,000 characters `x`
beside a `://` took 106 s once.
"""

import sys
import time
from collections.abc import Mapping

from runbook.secrets import scrubber_for

CHARACTERS = 1_000_000
MOST_S = 1.0
"""How many seconds of the processor one million characters may take."""

URL = "postgresql://mig:Tr0ub4dor-99@db.example.com/music"

SHAPES: Mapping[str, str] = {
    "one word beside a URL": "x" * (CHARACTERS - len(URL) - 1) + f" {URL}",
    "a scheme of dots": "a." * (CHARACTERS // 2) + "://",
    "many schemes": "a://b:c" * (CHARACTERS // 7),
    "URLs": f"{URL} " * (CHARACTERS // (len(URL) + 1)),
    "a user without end": "http://" + "u:" * (CHARACTERS // 2),
    "backslashes": "passwd " + "\\" * CHARACTERS,
    "backslashes in a password": '"password": \\"' + "\\" * CHARACTERS,
    "blanks before no value": ("password" + " " * 1000) * (CHARACTERS // 1008),
    "quotes": "password='" + "''" * (CHARACTERS // 2),
    "escaped quotes": "password=\\'" + "\\\\'" * (CHARACTERS // 3),
    "keys": "'password': " * (CHARACTERS // 12),
    "entities": "&quot;password&quot;: &quot;" + "&quot" * (CHARACTERS // 5),
    "cuts": "Tr0..." * (CHARACTERS // 6),
    "long pieces between cuts": ("dor-99" * 400 + "...") * (CHARACTERS // 2403),
    "one line of a table": "|".join(f"{n:08d}" for n in range(CHARACTERS // 9)),
    "colours": "\x1b[31mx\x1b[0m" * (CHARACTERS // 10),
}


def main() -> int:
    """Print what each shape took; return 1 if one took longer than the bound."""
    slow = 0
    for name, text in SHAPES.items():
        scrubber = scrubber_for([URL, f"postgresql://mig:{'k' * 1700}@db/music"], environment={})
        began = time.process_time()
        scrubber.text(text)
        took = time.process_time() - began
        kept = "" if took <= MOST_S else f"  MISSED: at most {MOST_S:g} s"
        slow += bool(kept)
        print(f"{name:<28}{len(text):>10,} characters {took:8.3f} s{kept}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
