"""`python -m runbook`: the command line.

Python puts the current folder first on the path of a module that it runs. The folder is data, such
as the checkout of a stranger's specs: nothing more is imported from it.
"""

import os
import sys

if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    del sys.path[0]  # before anything else is imported, pathlib too

from runbook.cli import main

main()
