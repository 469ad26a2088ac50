"""Real storage for tests that need more than a file: loop devices and small filesystems. Both want root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop_device(path: Path, size: int, *, sector: int = 512) -> Iterator[Path]:
    """A real block device over a file (made if it is not there), with sectors of 512 or 4096 bytes."""
    if not path.exists():
        with path.open("wb") as file:
            file.truncate(size)
    argv = ["losetup", "--find", "--show", "--sector-size", str(sector), str(path)]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no loop devices here: {found.stderr.strip()}")
    try:
        yield Path(found.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", found.stdout.strip()], check=True)


@contextmanager
def mounted_ext4(image: Path, where: Path, size: int) -> Iterator[None]:
    """A small filesystem of its own."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@contextmanager
def mounted_tmpfs(where: Path, size: int) -> Iterator[None]:
    """A filesystem in memory that holds `size` bytes and no more."""
    where.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "mtv-test", str(where)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def resize_tmpfs(where: Path, size: int) -> None:
    """Give a mounted tmpfs another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(where)], check=True)


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """A folder that this process may not search, whoever it is."""
    mode, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)
