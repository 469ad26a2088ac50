"""Spoilt copies of an OVA: each function names the one thing that is wrong with what it writes."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.ova.package import add_member


def wrong_manifest(ova: Path, out: Path) -> None:
    """The manifest has another checksum for the disk than the disk has."""
    with _rewrite(ova, out) as (members, archive):
        for name, content in members:
            if name.endswith(".mf"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(_flip_digest(line) if ".vmdk)" in line else line for line in lines).encode()
            add_member(archive, name, content)


def missing_disk(ova: Path, out: Path) -> None:
    """The descriptor names a disk that is not in the archive."""
    _without(ova, out, ".vmdk")


def missing_descriptor(ova: Path, out: Path) -> None:
    """There is no .ovf."""
    _without(ova, out, ".ovf")


def missing_manifest(ova: Path, out: Path) -> None:
    """There is no .mf: allowed by the standard, but then nothing can be checked against the source."""
    _without(ova, out, ".mf")


def truncated(ova: Path, out: Path, *, kept: float = 0.5) -> None:
    """Only the first part of the archive is there, as after an interrupted download."""
    shutil.copyfile(ova, out)
    with out.open("r+b") as file:
        file.truncate(int(ova.stat().st_size * kept))


def flipped_bit(ova: Path, out: Path) -> None:
    """One bit in the middle of the first disk is wrong; the manifest is right."""
    shutil.copyfile(ova, out)
    with tarfile.open(ova) as archive:
        disk = next(member for member in archive if member.name.endswith(".vmdk"))
    with out.open("r+b") as file:
        place = disk.offset_data + disk.size // 2
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def _flip_digest(line: str) -> str:
    head, digest = line.rstrip("\n").rsplit(" ", 1)
    first = "0" if digest[0] != "0" else "1"
    return f"{head} {first}{digest[1:]}\n"


def _without(ova: Path, out: Path, suffix: str) -> None:
    with _rewrite(ova, out) as (members, archive):
        for name, content in members:
            if not name.endswith(suffix):
                add_member(archive, name, content)


@contextmanager
def _rewrite(ova: Path, out: Path) -> Iterator[tuple[Iterator[tuple[str, bytes]], tarfile.TarFile]]:
    with tarfile.open(ova) as source, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as target:
        yield _members(source), target


def _members(source: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in source:
        content = source.extractfile(member)
        if content is not None:
            yield member.name, content.read()
