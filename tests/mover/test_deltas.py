"""Deltas: a chain of them is the same as a fresh copy, and a crash in one never leaves a mix that is called whole."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.geometry import BLOCK_BYTES, Extent, cut_into_blocks, merged
from mover.journal import Journal, read_journal
from mover.journal_format import VERIFIED
from mover.measure import digest_of_path
from mtv.model.transfer import DiskTransfer, OvaMember, Proof, Verify
from tests.mover import moving
from tests.mover.journals import records_of
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES
SIZE = 10 * BLOCK + 12800
AREAS = [(0, MIB), (2 * BLOCK - 7, 100), (5 * BLOCK + 4096, 5 * MIB), (10 * BLOCK, 12345)]


def delta(disk: DiskTransfer, base: str, dirty: list[tuple[int, int]] | None = None, context: str = "") -> DiskTransfer:
    """The disk as a delta upon a base."""
    told = None if dirty is None else tuple(dirty)
    return msgspec.structs.replace(disk, base_generation=base, dirty=told, dirty_context=context)


def raw_disk(source: Path, target: Path, generation: str) -> DiskTransfer:
    """A local file to copy."""
    member = OvaMember(path=str(source), offset=0, length=source.stat().st_size, format="raw")
    return moving.disk_of(member, source.stat().st_size, target, generation=generation)


def change(path: Path, rng: random.Random, size: int, count: int) -> list[tuple[int, int]]:
    """Write noise, zeros or holes at random places; what changed."""
    changed = []
    with path.open("r+b") as file:
        for _ in range(count):
            offset = rng.randrange(size)
            length = min(rng.choice([1, 512, 70_000, BLOCK + 5]), size - offset)
            file.seek(offset)
            file.write(rng.choice([rng.randbytes(length), bytes(length)]))
            changed.append((offset, length))
    return changed


@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 30), verify=st.sampled_from(list(Verify)))
def test_a_chain_of_deltas_equals_a_fresh_copy(
    tmp_path_factory: pytest.TempPathFactory, seed: int, verify: Verify
) -> None:
    tmp_path, rng = tmp_path_factory.mktemp("chain"), random.Random(seed)
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS, seed=seed)
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "0"), verify=verify)).result.ok
    for number in range(1, 4):
        dirty = change(source, rng, SIZE, rng.randrange(4))
        disk = delta(raw_disk(source, tmp_path / "t", str(number)), str(number - 1), dirty)
        ran = moving.run(moving.spec_of(tmp_path / "w", disk, verify=verify))
        assert ran.result.ok, ran.lines
        [done] = ran.result.disks
        touched = {work.block for work in cut_into_blocks(merged((Extent(*part) for part in dirty), SIZE))}
        assert done.bytes_read <= len(touched) * BLOCK
        assert done.digest == digest_of_path(source)
        assert done.proof is (Proof.AS_READ if verify is Verify.FULL else Proof.NONE)
        assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_delta_after_an_unverified_copy_reads_everything_back_before_it_calls_it_proven(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS)
    base = moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"), verify=Verify.OFF)
    assert moving.run(base).result.ok
    with (tmp_path / "t").open("r+b") as file:  # the medium lost a byte that the unverified copy never looked at
        file.seek(100)
        file.write(b"\x00\x01")
    dirty = change(source, random.Random(1), SIZE - 6 * BLOCK, 1)
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "2"), "1", dirty)))
    assert ran.result.ok
    assert ran.result.disks[0].proof is Proof.AS_READ
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_delta_upon_another_generation_copies_the_whole_disk(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS)
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    change(source, random.Random(3), SIZE, 5)
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "3"), "2", [(0, 1)])))
    assert ran.said("another generation")
    assert ran.result.disks[0].bytes_resumed == 0
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


def test_a_delta_upon_an_unfinished_copy_copies_what_was_missing_too(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS)
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    journal = tmp_path / "w" / "journal-0.bin"
    header, _ = read_journal(journal)
    Journal.replace(journal, header, records_of(journal)[:1])  # as if it had been killed then
    with (tmp_path / "t").open("r+b") as file:
        file.seek(8 * BLOCK)
        file.write(b"left behind by the killed one")
    dirty = change(source, random.Random(2), MIB, 2)
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "2"), "1", dirty)))
    assert ran.result.ok
    assert ran.result.disks[0].digest == digest_of_path(source)
    assert moving.same_bytes(source, tmp_path / "t", SIZE)


@pytest.mark.parametrize("has_checkpoint", [False, True], ids=["at-its-start", "after-a-checkpoint"])
def test_a_delta_that_is_killed_resumes_and_calls_no_mix_whole(tmp_path: Path, has_checkpoint: bool) -> None:
    size = 40 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    assert moving.run(moving.spec_of(tmp_path / "w", raw_disk(source, tmp_path / "t", "1"))).result.ok
    before = (tmp_path / "w" / "journal-0.bin").read_bytes()
    dirty = [(block * BLOCK + 77, 100) for block in range(0, 40, 2)]
    with source.open("r+b") as file:
        for offset, length in dirty:
            file.seek(offset)
            file.write(b"\xc3" * length)
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        disk = delta(moving.disk_of(uri, size, tmp_path / "t", generation="2"), "1", dirty)
        spec = moving.spec_of(tmp_path / "w", disk)
        journal = tmp_path / "w" / "journal-0.bin"
        with moving.running_mover(tmp_path, spec, *moving.MUCH_LEFT) as mover:
            moving.wait_for(lambda: journal.read_bytes() != before, "the new journal")
            if has_checkpoint:
                length = len(journal.read_bytes())
                moving.wait_for(lambda: len(journal.read_bytes()) > length or mover.poll() is not None, "a checkpoint")
            mover.send_signal(signal.SIGKILL)
            mover.communicate(timeout=300)
    header, _ = read_journal(journal)
    assert header.generation == "2"
    assert records_of(journal)[-1].kind != VERIFIED
    ran = moving.run(moving.spec_of(tmp_path / "w", delta(raw_disk(source, tmp_path / "t", "2"), "1", dirty)))
    assert ran.result.ok, ran.lines
    assert ran.result.disks[0].digest == digest_of_path(source)
    assert ran.result.disks[0].bytes_read <= len(dirty) * BLOCK
    assert moving.same_bytes(source, tmp_path / "t", size)


class Host:
    """A qemu-storage-daemon that plays the source's host: a live disk, points in time, dirty bitmaps."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(60)
        stream.connect(str(folder / "qmp"))
        self._stream, self._file = stream, stream.makefile("rw")
        self._file.readline()
        self.ask("qmp_capabilities")

    def close(self) -> None:
        """Let go of the monitor."""
        self._file.close()
        self._stream.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def point_in_time(self, number: int) -> str:
        """The URI of the disk as it is now; what changes from now on is noted in bitmap `b<number>`."""
        overlay = self.folder / f"fleece{number}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", overlay, str(self.size)], check=True)
        node = {"driver": "qcow2", "node-name": f"pit{number}", "backing": "disk"}
        self.ask("blockdev-add", **node, file={"driver": "file", "filename": str(overlay)})
        actions: list[dict[str, Any]] = [
            {"type": "block-dirty-bitmap-add", "data": {"node": "disk", "name": f"b{number}", "granularity": 65536}},
            {
                "type": "blockdev-backup",
                "data": {"device": "disk", "target": f"pit{number}", "sync": "none", "job-id": f"j{number}"},
            },
        ]
        export: dict[str, Any] = {"type": "nbd", "id": f"e{number}", "node-name": f"pit{number}", "name": f"p{number}"}
        if number:
            frozen = {"node": "disk", "name": f"b{number - 1}"}
            actions.append({"type": "block-dirty-bitmap-disable", "data": frozen})
            export["bitmaps"] = [frozen]
        self.ask("transaction", actions=actions)
        self.ask("block-export-add", **export)
        return f"nbd+unix:///p{number}?socket={self.folder / 'nbd'}"

    def forget(self, number: int) -> None:
        """Give up a point in time."""
        self.ask("block-export-del", id=f"e{number}", mode="hard")
        self.ask("job-cancel", id=f"j{number}")
        moving.wait_for(lambda: all(job["id"] != f"j{number}" for job in self.ask("query-jobs")), "the job's end")
        self.ask("blockdev-del", **{"node-name": f"pit{number}"})


@contextmanager
def storage_daemon(folder: Path, live: Path) -> Iterator[Host]:
    disk = f"driver=raw,node-name=disk,discard=unmap,file.driver=file,file.filename={live},file.discard=unmap"
    argv = ["qemu-storage-daemon", "--chardev", f"socket,id=q,path={folder}/qmp,server=on,wait=off"]
    argv += ["--monitor", "chardev=q", "--blockdev", disk]
    argv += ["--nbd-server", f"addr.type=unix,addr.path={folder}/nbd,max-connections=16"]
    argv += ["--export", "type=nbd,id=guest,node-name=disk,name=guest,writable=on"]
    process = subprocess.Popen(argv)
    try:
        moving.wait_for(lambda: (folder / "nbd").exists() and (folder / "qmp").exists(), "the storage daemon")
        with closing(Host(folder, live.stat().st_size)) as host:
            yield host
    finally:
        process.terminate()
        process.wait(timeout=300)


@pytest.mark.parametrize("links", [6, pytest.param(50, marks=pytest.mark.long)])
def test_a_chain_by_qemus_dirty_bitmaps_equals_a_fresh_copy_byte_for_byte(tmp_path: Path, links: int) -> None:
    size, rng = 16 * MIB + 65536, random.Random(links)
    live = moving.make_disk(tmp_path / "live", size, [(0, MIB), (9 * MIB, 3 * MIB)])
    with storage_daemon(tmp_path, live) as host:
        for number in range(links + 1):
            if number:
                commands = []
                for _ in range(rng.randrange(1, 4)):
                    offset, length = rng.randrange(size // 512) * 512, rng.choice([512, 65536, 300_032])
                    length = min(length, size - offset)
                    how = rng.choice([f"write -P {rng.randrange(1, 256)}", "write -z -u", "discard"])
                    commands += ["-c", f"{how} {offset} {length}"]
                guest = f"nbd+unix:///guest?socket={tmp_path}/nbd"
                subprocess.run(["qemu-io", "-f", "raw", *commands, guest], check=True, stdout=subprocess.DEVNULL)
            uri = host.point_in_time(number)
            if number:
                host.forget(number - 1)
            disk = moving.disk_of(uri, size, tmp_path / "t", generation=str(number))
            if number:
                disk = delta(disk, str(number - 1), context=f"qemu:dirty-bitmap:b{number - 1}")
            ran = moving.run(moving.spec_of(tmp_path / "w", disk))
            assert ran.result.ok, ran.lines
            assert ran.said("a delta") == bool(number)
        fresh = moving.run(moving.spec_of(tmp_path / "w2", moving.disk_of(uri, size, tmp_path / "fresh")))
    assert fresh.result.disks[0].digest == ran.result.disks[0].digest
    assert moving.same_bytes(live, tmp_path / "t", size)
    assert moving.same_bytes(tmp_path / "fresh", tmp_path / "t", size)


def test_a_bitmap_that_the_server_does_not_have_is_refused_before_anything_changes(tmp_path: Path) -> None:
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS)
    with moving.nbdkit(tmp_path, "file", str(source)) as uri:
        disk = moving.disk_of(uri, SIZE, tmp_path / "t", generation="1")
        assert moving.run(moving.spec_of(tmp_path / "w", disk)).result.ok
        journal = (tmp_path / "w" / "journal-0.bin").read_bytes()
        newer = msgspec.structs.replace(disk, generation="2")
        ran = moving.run(moving.spec_of(tmp_path / "w", delta(newer, "1", context="qemu:dirty-bitmap:none")))
    assert ran.result.failure is not None
    assert (ran.result.failure.code, ran.result.failure.retryable) == ("source-no-bitmap", False)
    assert (tmp_path / "w" / "journal-0.bin").read_bytes() == journal


@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=5))
def test_dirty_extents_in_any_order_are_the_same_extents(parts: list[tuple[int, int]]) -> None:
    extents = [Extent(*part) for part in parts]
    assert merged(extents, SIZE) == merged(reversed(extents), SIZE)
