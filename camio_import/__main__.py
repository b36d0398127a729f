"""`python -m camio_import`."""

import os
import sys

# Python puts the current folder in front: a file called requests.py beside somebody's videos would
# be run instead of the library.
if sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    del sys.path[0]

from camio_import.cli import run

if __name__ == "__main__":
    run()
