"""Files that are there whole or not at all, for readers in other processes and after a crash."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Make `data` the content of a file whose folder is there; `mode` is its mode less the umask.

    Who reads meanwhile finds the old content or the new one. The new one is on the disk before it takes the old one's
    place, so that after a loss of power, too, the file is one of the two. Raises `OSError`; the file then is as before.
    """
    # No process id in the name: containers that share a folder have the same ones.
    draft = path.with_name(f".writing-{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
