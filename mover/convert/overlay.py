"""qcow2 overlays over the copied disks, and the journal that makes their commit repeatable.

States in `commit.json`:  (no file) → commit_started → committed
Before `commit_started` an overlay may be thrown away at any time: the disks below are untouched.
After it, the only way on is the same commit from the same overlays, as often as it takes; `qemu-img commit -d` leaves
the overlay as it was, so a commit that was cut off anywhere can be repeated to the same end.
Both states speak only of the copies whose journals were spoiled for that commit; see `convert`.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mover.convert import failures
from mover.failure import storage_error
from mtv.model.conversion import ConvertDisk, ConvertResult
from mtv.model.errors import NOT_UNDERSTOOD, PermanentError, TemporaryError

JOURNAL = "commit.json"
TOOL_TIMEOUT_S = 6 * 3600.0
_OF_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What is wrong with the place that is written to. Other words, such as those of EIO, may be of what is read."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's content: whose copies are being committed (disk id → root digest before conversion), and the
    conversion's result, complete once `state` is committed.
    """

    state: str
    copies: dict[str, str]
    result: ConvertResult


def overlay_path(work_dir: Path, disk: ConvertDisk) -> Path:
    """Where a disk's overlay lies."""
    return work_dir / f"overlay-{disk.id}.qcow2"


def create(work_dir: Path, disks: Sequence[ConvertDisk]) -> list[Path]:
    """Make fresh overlays, replacing leftovers of a conversion that never reached its commit."""
    overlays = []
    for disk in disks:
        overlay = overlay_path(work_dir, disk)
        overlay.unlink(missing_ok=True)
        written = ("work-volume", str(overlay))
        _qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk.path, "--", str(overlay), writing=written)
        overlays.append(overlay)
    return overlays


def discard(work_dir: Path, disks: Sequence[ConvertDisk]) -> None:
    """Remove the overlays."""
    for disk in disks:
        overlay_path(work_dir, disk).unlink(missing_ok=True)


def commit(work_dir: Path, disks: Sequence[ConvertDisk], *, check_lock: Callable[[], None] = lambda: None) -> None:
    """Write every overlay into its disk and make it durable. May be repeated after a crash at any point.

    `check_lock` raises if we may no longer write; it is asked before each disk.
    """
    for disk in disks:
        check_lock()
        overlay = str(overlay_path(work_dir, disk))
        _qemu_img("commit", "-q", "-d", "-t", "none", "-f", "qcow2", overlay, writing=("target", disk.path))
        try:
            _sync(Path(disk.path))
        except OSError as error:
            raise storage_error(error, where="target", what=f"flush {disk.path}") from error


def read_journal(work_dir: Path) -> Commit | None:
    """Return the journal, `None` when no commit was started. Raises `PermanentError` when it cannot be read."""
    path = work_dir / JOURNAL
    try:
        return msgspec.json.decode(path.read_bytes(), type=Commit)
    except FileNotFoundError:
        return None
    except NOT_UNDERSTOOD as error:
        raise PermanentError(
            f"the commit journal {path} is damaged ({error})",
            cure="the disks may be half committed: copy the VM again",
            code="journal-damaged",
        ) from error


def write_journal(work_dir: Path, journal: Commit) -> None:
    """Replace the journal durably: a reader sees the old one or the new one, whole."""
    path, fresh = work_dir / JOURNAL, work_dir / f"{JOURNAL}.new"
    with fresh.open("wb") as out:
        out.write(msgspec.json.encode(journal))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(path)
    _sync(work_dir)


def take_back(work_dir: Path) -> None:
    """Remove, durably, the journal of a commit that has not written anything yet."""
    for name in (f"{JOURNAL}.new", JOURNAL):
        (work_dir / name).unlink(missing_ok=True)
    _sync(work_dir)


def make_durable(paths: Sequence[Path]) -> None:
    """Flush files to the medium."""
    for path in paths:
        _sync(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _qemu_img(*arguments: str, writing: tuple[str, str]) -> None:
    """Run it. `writing` is the one place that it writes to: the kind of volume (see `storage_error`), and the file."""
    argv = ["qemu-img", *arguments]
    try:
        with failures.starting(argv[0]):
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_TIMEOUT_S, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(f"qemu-img {arguments[0]} did not end in {TOOL_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        where, path = writing
        for number in _OF_WRITES:
            if os.strerror(number) in said:
                raise storage_error(OSError(number, said), where=where, what=path)
        raise TemporaryError(
            f"qemu-img {arguments[0]} failed: {said}",
            cure="check space and health of the work and target volumes",
            code=f"qemu-img-{arguments[0]}",
        )
