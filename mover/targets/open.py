"""Opens the target that a spec names."""

from __future__ import annotations

import stat
from pathlib import Path

from mover.failure import storage_error
from mover.targets.base import Target
from mover.targets.block import BlockTarget
from mover.targets.file import FileTarget
from mtv.model.errors import PermanentError
from mtv.model.transfer import DiskTarget


def open_target(target: DiskTarget, size_bytes: int) -> Target:
    """The open target; a block device where a file is wanted, or the reverse, is refused."""
    path = Path(target.path)
    mode = _mode_at(path)
    is_block = stat.S_ISBLK(mode)
    is_file = not mode or stat.S_ISREG(mode)
    if target.block and not is_block:
        raise PermanentError(
            f"{path} is not a block device",
            cure="check the claim's volumeMode and the pod's volumeDevices",
            code="target-not-a-device",
        )
    if not target.block and not is_file:
        raise PermanentError(
            f"{path} is not a regular file", cure="check the claim's volumeMode", code="target-not-a-file"
        )
    if target.block:
        return BlockTarget(path, size_bytes, volume=target.volume)
    return FileTarget(path, size_bytes, preallocate=target.preallocate)


def is_device(path: Path) -> bool:
    """Whether a block device is at `path`. Raises storage errors."""
    return stat.S_ISBLK(_mode_at(path))


def _mode_at(path: Path) -> int:
    """What is at a path; 0: nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(error, where="target", what=f"look at {path}") from error
