"""`mtv-mover digest`: the root digest of a path, or of any source that can be read at an offset."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from mover.command_options import uri_options
from mover.control.controls import Controls
from mover.measure import digest_of_path, digest_of_source
from mover.sources.base import RandomSource
from mover.sources.open import open_source
from mover.sources.uri import is_uri, source_of
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskTarget


def digest_of(arguments: argparse.Namespace) -> str:
    """The root digest, hex. A path that is there is a path, whatever it looks like."""
    if Path(arguments.disk).exists() or not is_uri(arguments.disk):
        return digest_of_path(Path(arguments.disk), size_bytes=arguments.size)
    if arguments.size is not None:
        raise PermanentError("--size is for paths only", cure="leave it out", code="spec")
    named = source_of(arguments.disk, uri_options(arguments))
    disk = named.as_disk("0", DiskTarget(path=""), size_bytes=named.size_bytes)
    controls = Controls(arguments.credentials)
    try:
        with contextlib.closing(open_source(disk, controls)) as source:
            if not isinstance(source, RandomSource):
                raise PermanentError(
                    f"{arguments.disk} can only be read from its start",
                    cure="copy it: the copy tells its digest",
                    code="source-stream",
                )
            return digest_of_source(source)
    finally:
        controls.close(well=True)
