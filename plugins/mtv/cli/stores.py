"""`mtv store upgrade`."""

from __future__ import annotations

import argparse

from mtv.cli.installation import Installation


def upgrade(arguments: argparse.Namespace, installation: Installation) -> int:
    """Make the store's tables, or bring them up to date."""
    from mtv.store.migrate import HEAD

    with installation.store_as_it_is() as store:
        before = store.upgrade(despite_runs=arguments.despite_runs)
        place = store.place
    print(f"{place}: schema {HEAD}" + ("" if before == HEAD else f" (before: {before or 'none'})"))
    return 0
