"""`python -m mover` is `mtv-mover`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from mover.cli import main as _main


def main() -> NoReturn:
    """Entry point of the command."""
    code = _main()
    # Every file is closed and every thread joined by now. What the interpreter would still do is give back memory,
    # piece by piece, and nobody needs that any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
