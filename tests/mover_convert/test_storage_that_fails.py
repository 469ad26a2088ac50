"""A work volume that fails, or a program that is missing: the pod says which, and whether the disks were touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mover.convert.run
from mover.cli import main
from mover.convert import convert, overlay, virt_v2v
from mover.failure import EXIT_PERMANENT
from mtv.model.conversion import ConvertDisk, ConvertSpec

SIZE = 1 << 20


@pytest.fixture
def spec(tmp_path: Path) -> ConvertSpec:
    work, image = tmp_path / "work", tmp_path / "disk.img"
    work.mkdir()
    image.write_bytes(b"\0" * SIZE)
    disk = ConvertDisk(id="root", path=str(image), block=False, size_bytes=SIZE, digest="d")
    return ConvertSpec(plan="p", run="r", vm="v", epoch=1, disks=(disk,), work_dir=str(work))


@pytest.fixture
def virt_v2v_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def played(conversion: mover.convert.run._Conversion, *_: object) -> virt_v2v.Report:
        (conversion.work / mover.convert.run.LOG).touch()
        return virt_v2v.Report(exit_code=0, warnings=(), errors=(), facts={"i_osinfo": "debian12"})

    monkeypatch.setattr(mover.convert.run._Conversion, "_virt_v2v", played)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run_pod(spec: ConvertSpec, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """What the pod ends with: its exit code and its termination message."""
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode(spec))
    exit_code = main(
        ["convert", "--spec", str(tmp_path / "spec.json"), "--termination-log", str(tmp_path / "termination")]
    )
    return exit_code, json.loads((tmp_path / "termination").read_text())


@pytest.mark.usefixtures("virt_v2v_ends_well")
@pytest.mark.parametrize("call", ["make_durable", "write_journal"])
def test_a_full_work_volume_is_told_and_the_disks_called_untouched_before_the_commit(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(overlay, call, full)
    exit_code, message = run_pod(spec, tmp_path)
    assert exit_code == EXIT_PERMANENT
    assert message["failure"]["code"] == "work-volume-full"
    assert message["untouched"] is True
    assert not list((tmp_path / "work").glob("overlay-*"))


@pytest.mark.usefixtures("virt_v2v_ends_well")
def test_a_commit_journal_that_may_not_be_durable_is_taken_back(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its overlays go, so that nobody may find it and finish the commit."""
    write_journal = overlay.write_journal

    def written_but_not_flushed(work_dir: Path, journal: overlay.Commit) -> None:
        write_journal(work_dir, journal)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(overlay, "write_journal", written_but_not_flushed)
    _, message = run_pod(spec, tmp_path)
    assert message["failure"]["code"] == "work-volume-io"
    assert message["untouched"] is True
    assert overlay.read_journal(tmp_path / "work") is None


@pytest.mark.usefixtures("virt_v2v_ends_well")
def test_disks_that_a_commit_has_begun_on_are_never_called_untouched(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "commit", full)
    exit_code, message = run_pod(spec, tmp_path)
    assert exit_code == EXIT_PERMANENT
    assert message["failure"]["code"] == "work-volume-full"
    assert not message.get("untouched")
    assert list((tmp_path / "work").glob("overlay-*"))


def test_a_work_volume_that_lets_nothing_be_removed_leaves_the_failure_as_it_is(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(overlay, "discard", read_only)
    _, message = run_pod(spec, tmp_path)
    assert message["failure"]["code"] == "work-volume-read-only"
    assert message["untouched"] is True


def test_a_failure_is_told_even_where_the_whole_result_cannot_be_written(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "convert-result.tmp").mkdir()
    monkeypatch.setenv("PATH", "")
    _, message = run_pod(spec, tmp_path)
    assert message["failure"]["code"] == "tool-missing"
    assert message["untouched"] is True


def test_an_image_without_qemu_is_told_by_the_program_that_is_missing(
    spec: ConvertSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    exit_code, message = run_pod(spec, tmp_path)
    assert exit_code == EXIT_PERMANENT
    assert message["failure"]["code"] == "tool-missing"
    assert "qemu-" in message["failure"]["message"]
    assert message["untouched"] is True


def test_an_image_without_virt_v2v_is_told_by_the_program_that_is_missing(spec: ConvertSpec) -> None:
    result = convert(spec, emit=lambda _: None, say=lambda _: None, digest=lambda _: "", environ={"PATH": ""})
    assert result.failure is not None
    assert result.failure.code == "tool-missing"
    assert "virt-v2v-in-place" in result.failure.message
    assert result.untouched
