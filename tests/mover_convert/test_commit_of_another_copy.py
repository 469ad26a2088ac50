"""A commit journal answers only for the copy that it speaks of: the same source copied again has the same digest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mover.command_options import JOURNAL_SUFFIX
from mover.convert import convert, overlay
from mover.digest import ALGORITHM
from mover.journal import Journal, journal_path, spoil
from mover.journal_format import Header
from mtv.model.conversion import ConvertDisk, ConvertResult, ConvertSpec

SIZE = 1 << 20
ENCRYPTED = b"LUKS\xba\xbe\0\1".ljust(SIZE, b"\0")
"""What no conversion gets past: one that begins anew on it is refused at once."""


def spec_of(tmp_path: Path) -> ConvertSpec:
    work, image = tmp_path / "work", tmp_path / "disk.img"
    work.mkdir()
    image.write_bytes(ENCRYPTED)
    disk = ConvertDisk(id="root", path=str(image), block=False, size_bytes=SIZE, digest="d")
    return ConvertSpec(plan="p", run="r", vm="v", epoch=1, disks=(disk,), work_dir=str(work))


def begin_copy(journal: Path) -> None:
    """A copy from zero, as far as its journal goes."""
    header = Header(identity="i", generation="1", size_bytes=SIZE, algorithm=ALGORITHM, target="t", epoch=1)
    Journal.open(journal, header, prepare=lambda: None).journal.close()


def begin_commit(spec: ConvertSpec, state: str) -> Path:
    """The overlay of a conversion that put sevens into the disk, and its journal; returns the overlay."""
    work = Path(spec.work_dir)
    (image,) = overlay.create(work, spec.disks)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 64k", str(image)], check=True)
    result = ConvertResult(ok=True, digests={"root": "of the first copy"})
    overlay.write_journal(work, overlay.Commit(state=state, copies={"root": "d"}, result=result))
    return image


def run(spec: ConvertSpec) -> ConvertResult:
    return convert(spec, emit=lambda _: None, say=lambda _: None, digest=lambda _: "now", environ={"PATH": ""})


@pytest.mark.parametrize("state", ["commit_started", "committed"])
@pytest.mark.parametrize("where", ["on the work volume", "beside the disk"])
def test_a_source_that_is_copied_again_is_converted_again_though_its_digest_is_the_same(
    tmp_path: Path, state: str, where: str
) -> None:
    spec = spec_of(tmp_path)
    path = Path(spec.disks[0].path)
    journal = journal_path(Path(spec.work_dir), "root")
    if where == "beside the disk":
        journal = Path(f"{path}{JOURNAL_SUFFIX}")
    begin_copy(journal)
    image = begin_commit(spec, state)
    spoil(journal, "its target was converted since")
    journal.unlink()
    begin_copy(journal)

    result = run(spec)

    assert result.failure is not None, "a copy that no conversion has seen was answered for"
    assert result.failure.code == "encrypted"
    assert result.untouched
    assert path.read_bytes() == ENCRYPTED
    assert not image.exists()


def test_a_copy_that_resumes_after_its_target_was_converted_begins_anew_and_is_converted_anew(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    journal = journal_path(Path(spec.work_dir), "root")
    begin_copy(journal)
    begin_commit(spec, "committed")
    spoil(journal, "its target was converted since")
    begin_copy(journal)
    result = run(spec)
    assert result.failure is not None
    assert result.failure.code == "encrypted"


def test_a_commit_that_was_cut_off_before_its_first_byte_is_converted_anew_from_disks_as_they_were_copied(
    tmp_path: Path,
) -> None:
    """The journals of the copies are spoiled between the commit's journal and its first byte."""
    spec = spec_of(tmp_path)
    begin_copy(journal_path(Path(spec.work_dir), "root"))
    begin_commit(spec, "commit_started")
    result = run(spec)
    assert result.untouched
    assert Path(spec.disks[0].path).read_bytes() == ENCRYPTED


def test_a_commit_that_was_cut_off_after_its_first_byte_is_finished_from_the_same_overlays(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    journal = journal_path(Path(spec.work_dir), "root")
    begin_copy(journal)
    begin_commit(spec, "commit_started")
    spoil(journal, "its target was converted since")
    result = run(spec)
    assert result.ok
    assert result.resumed_commit
    assert Path(spec.disks[0].path).read_bytes()[: 64 << 10] == b"\7" * (64 << 10)
    assert run(spec) == result


def test_a_finished_conversion_is_answered_from_its_journal(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    journal = journal_path(Path(spec.work_dir), "root")
    begin_copy(journal)
    begin_commit(spec, "committed")
    spoil(journal, "its target was converted since")
    assert run(spec).digests == {"root": "of the first copy"}
