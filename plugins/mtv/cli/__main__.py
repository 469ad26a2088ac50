"""`python -m mtv.cli` is `mtv`."""

from __future__ import annotations

import sys

from mtv.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
