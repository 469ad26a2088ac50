"""`python -m mover` is `mtv-mover`."""

from __future__ import annotations

import sys

from mover.cli import main as _main


def main() -> int:
    """Entry point of the command."""
    return _main()


if __name__ == "__main__":
    sys.exit(main())
