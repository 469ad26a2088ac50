"""All Go programs of the lab: `python -m lab.binaries` builds them, needing nothing but Python and Go."""

from __future__ import annotations

import sys

from lab.cluster.binaries import binaries as cluster
from lab.kubevirt.binary import binary as kubevirt
from lab.vcenter.binary import binary as vcenter
from mtv.model.errors import MtvError


def main() -> int:
    """Build what is not in the cache yet, the slowest first."""
    try:
        for build in (cluster, kubevirt, vcenter):
            build()
    except MtvError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
