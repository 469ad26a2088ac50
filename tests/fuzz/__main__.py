"""Fuzz one reader for a while, on one core: `python -m tests.fuzz vmdk --minutes 10`.

What goes wrong is written to `<folder>/<reader>-<seed>` and told. When it is mended, put it into the reader's corpus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import CaseFailed, try_case


def main() -> int:
    """Run until the time is over; returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=[reader.name for reader in READERS])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case's; each further one has the next")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where findings are kept")
    arguments = parser.parse_args()
    (reader,) = (reader for reader in READERS if reader.name == arguments.reader)
    began, cases, found = time.monotonic(), 0, {}
    while time.monotonic() - began < arguments.minutes * 60:
        seed = arguments.seed + cases
        cases += 1
        try:
            try_case(reader, seed)
        except CaseFailed as failed:
            where = str(failed.place)
            if where not in found:
                found[where] = arguments.folder / f"{reader.name}-{seed}"
                found[where].write_bytes(failed.data)
                print(f"seed {seed}: {where}: {failed.__cause__!r}; kept in {found[where]}", flush=True)
                traceback.print_exception(failed.__cause__, limit=-6, file=sys.stderr)
    print(f"{reader.name}: {cases} cases in {time.monotonic() - began:.0f} s, {len(found)} kinds of failure")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
