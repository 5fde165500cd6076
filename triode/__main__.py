"""`python -m triode` is the command line."""

from __future__ import annotations

import sys

from triode.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
