"""The journalled commit: whatever kills it, repeating it gives the same disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mover.convert import overlay
from mtv.model.conversion import ConvertDisk, ConvertResult
from mtv.model.errors import PermanentError, TemporaryError
from tests.mover.devices import mounted_ext4, mounted_tmpfs

SIZE = 256 << 20
CHANGED = 160 << 20

COMMIT = """
import sys
from pathlib import Path
from mover.convert import overlay
from mtv.model.conversion import ConvertDisk
disk = ConvertDisk(id="root", path=sys.argv[2], block=False, size_bytes=Path(sys.argv[2]).stat().st_size, digest="")
overlay.commit(Path(sys.argv[1]), [disk])
"""


def wait_until_gone(group: int) -> None:
    """A killed child lets go of its file locks only when the kernel has ended it."""
    for _ in range(3000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("a killed process group does not end")


def make_disk(folder: Path, *, seed: int) -> ConvertDisk:
    """A raw disk with some data, as a transfer leaves it."""
    path = folder / "disk.img"
    with path.open("wb") as out:
        out.truncate(SIZE)
        out.write(random.Random(seed).randbytes(1 << 20))
    return ConvertDisk(id="root", path=str(path), block=False, size_bytes=SIZE, digest="")


def change_through_overlay(image: Path, *, seed: int) -> None:
    """Write random data through the overlay, as a conversion would."""
    data = image.with_suffix(".data")
    data.write_bytes(random.Random(seed).randbytes(CHANGED))
    command = f"write -q -s {data} 8M {CHANGED}"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(image)], check=True, capture_output=True)
    data.unlink()


def same_content(image: Path, disk: ConvertDisk) -> bool:
    return subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, disk.path]).returncode == 0


def bytes_written(pid: int) -> int:
    """Bytes that `pid`'s children have written so far (0 once they are gone)."""
    total = 0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            for line in Path(f"/proc/{child}/io").read_text().splitlines():
                if line.startswith("wchar:"):
                    total += int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return total


@pytest.mark.long
def test_a_commit_killed_twenty_times_inside_ends_in_the_same_disk(tmp_path):
    disk = make_disk(tmp_path, seed=1)
    (image,) = overlay.create(tmp_path, [disk])
    change_through_overlay(image, seed=2)
    argv = [sys.executable, "-c", COMMIT, str(tmp_path), disk.path]
    killed, was_inside = 0, False
    for attempt in range(20):
        process = subprocess.Popen(argv, start_new_session=True)
        threshold = CHANGED * (attempt + 1) // 25
        deadline = time.monotonic() + 60
        while process.poll() is None and bytes_written(process.pid) < threshold:
            assert time.monotonic() < deadline, "the commit neither wrote nor ended"
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait(timeout=30)
        wait_until_gone(process.pid)
        was_inside = was_inside or not same_content(image, disk)
    assert killed == 20
    assert was_inside, "every kill came too late to be inside a commit"
    overlay.commit(tmp_path, [disk])
    assert same_content(image, disk)


def test_a_commit_may_be_repeated(tmp_path):
    disk = make_disk(tmp_path, seed=3)
    (image,) = overlay.create(tmp_path, [disk])
    change_through_overlay(image, seed=4)
    overlay.commit(tmp_path, [disk])
    overlay.commit(tmp_path, [disk])
    assert same_content(image, disk)


def test_an_overlay_thrown_away_leaves_the_disk_as_it_was(tmp_path):
    disk = make_disk(tmp_path, seed=5)
    before = Path(disk.path).read_bytes()
    (image,) = overlay.create(tmp_path, [disk])
    change_through_overlay(image, seed=6)
    overlay.discard(tmp_path, [disk])
    assert Path(disk.path).read_bytes() == before
    assert not image.exists()


def test_the_journal_survives_a_torn_replacement(tmp_path):
    journal = overlay.Commit(state="commit_started", copies={"root": "d1"}, result=ConvertResult(ok=True))
    overlay.write_journal(tmp_path, journal)
    (tmp_path / "commit.json.new").write_bytes(b'{"state": "comm')
    assert overlay.read_journal(tmp_path) == journal


def test_a_damaged_journal_is_refused_with_its_path(tmp_path):
    (tmp_path / "commit.json").write_bytes(b"{")
    with pytest.raises(PermanentError, match=r"commit\.json is damaged"):
        overlay.read_journal(tmp_path)


def test_a_commit_without_its_overlay_fails_and_names_the_tool(tmp_path):
    disk = make_disk(tmp_path, seed=7)
    with pytest.raises(TemporaryError, match="qemu-img commit failed"):
        overlay.commit(tmp_path, [disk])


def test_a_commit_into_a_target_without_room_is_told_by_the_code_of_a_copy(tmp_path):
    (tmp_path / "room").mkdir()
    with mounted_ext4(tmp_path / "volume.img", tmp_path / "room", CHANGED // 2):
        disk = make_disk(tmp_path / "room", seed=8)
        (image,) = overlay.create(tmp_path, [disk])
        change_through_overlay(image, seed=9)
        with pytest.raises(PermanentError) as full:
            overlay.commit(tmp_path, [disk])
        assert full.value.code == "target-full"
        assert str(disk.path) in full.value.message


def test_an_overlay_that_finds_no_room_is_told_as_the_work_volumes(tmp_path):
    work = tmp_path / "work"
    disk = make_disk(tmp_path, seed=10)
    with mounted_tmpfs(work, 4096):
        (work / "ballast").write_bytes(bytes(4096))
        with pytest.raises(PermanentError) as full:
            overlay.create(work, [disk])
        assert full.value.code == "work-volume-full"


@pytest.mark.parametrize("kind", ["qcow2", "qcow2 with a data file", "vmdk"])
def test_a_guest_that_makes_its_disk_look_like_an_image_reaches_no_other_file(tmp_path: Path, kind: str) -> None:
    """The bytes are the guest's own; were their format guessed, they could name any file of the pod as their base."""
    secret, disk = tmp_path / "secret", tmp_path / "disk.img"
    secret.write_bytes(b"canary-secret".ljust(1 << 20, b"."))
    if kind == "vmdk":
        text = f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "{secret}" 0\n'
        disk.write_bytes(text.encode())
    else:
        elsewhere = (
            f"data_file={secret},data_file_raw=on" if "data" in kind else f"backing_file={secret},backing_fmt=raw"
        )
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", elsewhere, str(disk), "1M"], check=True)
        secret.write_bytes(b"canary-secret".ljust(1 << 20, b"."))  # a data file is emptied when it is made
    with disk.open("r+b") as out:
        out.truncate(2 << 20)
    before = disk.read_bytes()
    described = ConvertDisk(id="root", path=str(disk), block=False, size_bytes=2 << 20, digest="")
    (image,) = overlay.create(tmp_path, [described])
    seen = tmp_path / "seen"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(seen)], check=True)
    assert seen.read_bytes() == before
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 64k", str(image)], check=True)
    overlay.commit(tmp_path, [described])
    assert disk.read_bytes()[: 1 << 20] == before[: 1 << 20]
    assert secret.read_bytes().startswith(b"canary-secret")
