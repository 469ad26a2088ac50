"""What the disks' own bytes say against a conversion, found in milliseconds and before an appliance starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mover.convert import failures, ntfs
from mover.convert.domain import disk_letters
from mover.convert.guest import Key, passphrase
from mover.convert.volumes import Read, Volume, volumes_of
from mover.failure import storage_error
from mtv.model.conversion import ANY_FILE, LuksKey, Notice
from mtv.model.errors import PermanentError


@contextmanager
def reading(path: Path) -> Iterator[tuple[Read, int]]:
    """A file or block device as (read, size)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, where="target", what=f"open {path}") from error
    try:
        size = os.lseek(fd, 0, os.SEEK_END)

        def read(offset: int, length: int) -> bytes:
            if offset >= size:  # a guest's own numbers, which pread may not even take
                return b""
            try:
                return os.pread(fd, length, offset)
            except OSError as error:
                raise storage_error(error, where="target", what=f"read {path}") from error

        yield read, size
    finally:
        os.close(fd)


def volumes(paths: Iterable[Path]) -> tuple[tuple[Volume, ...], tuple[Notice, ...]]:
    """All volumes of disks in boot order and what is worth a warning; raises as `examine` does."""
    found: list[Volume] = []
    notices: list[Notice] = []
    for disk, path in enumerate(paths):
        with reading(path) as (read, size):
            more, said = examine(read, size, disk=disk)
        found += more
        notices += said
    return tuple(found), tuple(notices)


def examine(read: Read, size: int, *, disk: int) -> tuple[tuple[Volume, ...], tuple[Notice, ...]]:
    """The volumes of one disk. Raises `PermanentError` for what no conversion survives: BitLocker, a hibernated or
    dirty NTFS volume.
    """
    device = f"/dev/sd{disk_letters(disk)}"
    found = volumes_of(read, size, disk=disk, device=device)
    notices: list[Notice] = []
    for volume in found:
        if volume.kind == "bitlocker":
            raise PermanentError(
                f"{volume.device} is encrypted with BitLocker",
                cure="decrypt it on the source (manage-bde -off), wait until it is done, and run the VM again",
                code="bitlocker",
            )
        if volume.kind == "ntfs":
            notices += _ntfs_notices(read, volume)
        elif volume.kind == "windows-dynamic":
            notices.append(
                Notice(
                    code="windows-dynamic-disk",
                    message=f"{volume.device} is part of a Windows dynamic disk",
                    cure="that is fine for data; a system volume on it cannot be converted: make its disk a basic one",
                )
            )
    return found, tuple(notices)


def _ntfs_notices(read: Read, volume: Volume) -> list[Notice]:
    try:
        state = ntfs.state_of(read, volume.offset)
    except ntfs.Unreadable as error:
        return [
            Notice(
                code="ntfs-unreadable",
                message=f"whether {volume.device} was left clean cannot be read: {error}",
                cure="run chkdsk /f on the source if the conversion fails",
            )
        ]
    if state.hibernated:
        raise failures.refusal("guest-hibernated", f"Windows is hibernated on {volume.device} (or fast start-up is on)")
    if state.dirty:
        raise PermanentError(
            f"the NTFS volume {volume.device} is marked dirty",
            cure="start the guest on the source, let chkdsk /f finish, shut it down fully and run the VM again",
            code="ntfs-dirty",
        )
    return []


def keys_for(wanted: Sequence[LuksKey], folder: Path, found: Iterable[Volume]) -> tuple[Key, ...]:
    """Key files by device: `all` becomes every LUKS volume found, the file `*` every file of `folder`.

    Raises `PermanentError` (code encrypted) for a LUKS volume without a key, and (code luks-key) for a key file that is
    missing, empty, not one line of text, or outside `folder`.
    """
    encrypted = [volume for volume in found if volume.kind == "luks"]
    keys: list[Key] = []
    for key in _named(wanted, folder):
        path = folder / key.file
        if Path(key.file).name != key.file:
            raise PermanentError(
                f"the LUKS key file {key.file!r} is not in the VM's secret", cure="name a key of it", code="luks-key"
            )
        passphrase(path)
        if key.device == "all":
            keys += [Key(device=volume.device, path=str(path)) for volume in encrypted]
        else:
            keys.append(Key(device=key.device, path=str(path)))
    covered = {key.device for key in keys}
    for volume in encrypted:
        if volume.device not in covered and volume.uuid not in covered:
            raise failures.refusal("encrypted", f"{volume.device} is encrypted (LUKS) and no key is given for it")
    return tuple(keys)


def _named(wanted: Sequence[LuksKey], folder: Path) -> Iterator[LuksKey]:
    """The keys with their files by name; a mounted Secret also holds entries of its own, which begin with two dots."""
    for key in wanted:
        if key.file != ANY_FILE:
            yield key
            continue
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        files = [name for name in names if not name.startswith("..")]
        if not files:
            raise PermanentError(
                "the Secret with LUKS keys holds none",
                cure="give it a key of the device under any name",
                code="luks-key",
            )
        for name in files:
            yield LuksKey(device=key.device, file=name)
