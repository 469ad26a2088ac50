"""What verification finds: every flipped byte on the medium, and with a second read of the source those before it."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

import mover.ledger
from mover.buffers import PAGE_BYTES
from mover.digest import BlockDigests, block_digest
from mover.geometry import BLOCK_BYTES, block_extent
from mover.halt import Halt
from mover.measure import digest_of_path
from mover.progress import DiskMeter
from mover.readback import ReadBack
from mover.targets.base import Target
from mover.targets.file import FileTarget
from mtv.model.transfer import DiskResult, OvaMember, Proof, TransferSpec, Verify
from tests.mover import moving
from tests.mover.moving import MIB

BLOCK = BLOCK_BYTES


# -- the medium


class Medium:
    """A written file and the digests of what was written; bytes on its medium can be flipped."""

    def __init__(self, path: Path, size: int, seed: int) -> None:
        moving.make_disk(path, size, [(0, size)], seed=seed)
        self.size = size
        self.target = FileTarget(path, size)
        self.target.flush()
        self.digests = BlockDigests(size)
        content = path.read_bytes()
        for index in range(self.digests.count):
            where = block_extent(index, size)
            self.digests[index] = block_digest(content[where.offset : where.end])
        self._fd = os.open(path, os.O_RDWR)

    def flip(self, offset: int, mask: int) -> None:
        """Change some bits of one byte, on the medium and not only in the page cache."""
        byte = os.pread(self._fd, 1, offset)[0]
        os.pwrite(self._fd, bytes([byte ^ mask]), offset)
        page = offset // PAGE_BYTES * PAGE_BYTES
        os.posix_fadvise(self._fd, page, PAGE_BYTES, os.POSIX_FADV_DONTNEED)

    def wrong_blocks(self) -> list[int]:
        """What a full read-back says."""
        read_back = ReadBack(self.target, self.digests, Verify.FULL, Halt(), DiskMeter("0"), threads=3)
        read_back.start()
        read_back.hand_in(range(self.digests.count))
        return [mismatch.block for mismatch in read_back.finish()]

    def close(self) -> None:
        os.close(self._fd)
        self.target.close()


@pytest.mark.parametrize(
    ("in_short_blocks", "in_whole_blocks"), [(900, 24), pytest.param(9_400, 600, marks=pytest.mark.long)]
)
def test_single_flips_on_the_medium_are_all_found(tmp_path: Path, in_short_blocks: int, in_whole_blocks: int) -> None:
    seeded = random.Random(10_000)
    found = 0
    short = [Medium(tmp_path / f"short-{n}", seeded.randint(1, 40_000), n) for n in range(30)]
    for _ in range(in_short_blocks):
        medium = seeded.choice(short)
        offset, mask = seeded.randrange(medium.size), seeded.randint(1, 255)
        medium.flip(offset, mask)
        found += medium.wrong_blocks() == [0]
        medium.flip(offset, mask)
    whole = Medium(tmp_path / "whole", 12 * BLOCK, 99)
    for _ in range(in_whole_blocks // 12):
        flips = [(index * BLOCK + seeded.randrange(BLOCK), seeded.randint(1, 255)) for index in range(12)]
        for flip in flips:
            whole.flip(*flip)
        found += len(whole.wrong_blocks())
        for flip in flips:
            whole.flip(*flip)
    assert found == in_short_blocks + in_whole_blocks
    for medium in (*short, whole):
        assert medium.wrong_blocks() == []
        medium.close()


# -- modes


@pytest.mark.parametrize("mode", list(Verify))
def test_the_mode_of_verification_is_in_the_result(tmp_path: Path, mode: Verify) -> None:
    source = moving.make_disk(tmp_path / "s", BLOCK, [(0, MIB)])
    member = OvaMember(path=str(source), offset=0, length=BLOCK, format="raw")
    [done] = moving.run(
        moving.spec_of(tmp_path / "w", moving.disk_of(member, BLOCK, tmp_path / "t"), verify=mode)
    ).result.disks
    assert (done.verify, done.reread) == (mode, False)
    assert done.proof is (Proof.AS_READ if mode is Verify.FULL else Proof.NONE)


def test_sampling_reads_back_one_block_in_sixteen_and_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 34 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(index * BLOCK, 4096) for index in range(34)])
    read = Target.read
    seen: set[int] = set()

    def note(target: Target, into: memoryview, offset: int, length: int) -> None:
        seen.add(offset // BLOCK)
        read(target, into, offset, length)

    monkeypatch.setattr(Target, "read", note)
    member = OvaMember(path=str(source), offset=0, length=size, format="raw")
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(member, size, tmp_path / "t"), verify=Verify.SAMPLED)
    assert moving.run(spec).result.ok
    assert seen == {0, 16, 32, 33}


def test_the_target_is_read_back_while_the_source_is_still_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source holds its last block back until something was read back from the target."""
    monkeypatch.setattr(mover.ledger, "CHECKPOINT_BYTES", BLOCK)
    size = 8 * BLOCK
    source = moving.make_disk(tmp_path / "s", size, [(0, size)])
    read = Target.read

    def note(target: Target, into: memoryview, offset: int, length: int) -> None:
        read(target, into, offset, length)
        if threading.current_thread().name.startswith("read-back"):
            (tmp_path / "go").touch()

    monkeypatch.setattr(Target, "read", note)
    wait = f"if [ $4 = {7 * BLOCK} ]; then for i in $(seq 1000); do [ -e go ] && break; sleep 0.05; done; fi"
    held = f"{wait}; [ $4 != {7 * BLOCK} -o -e go ] || {{ echo EIO not read back >&2; exit 1; }}"
    with scripted(tmp_path, size, f"{held}; f={source}") as uri:
        assert moving.run(moving.spec_of(tmp_path / "w", moving.disk_of(uri, size, tmp_path / "t"))).result.ok
    assert moving.same_bytes(source, tmp_path / "t", size)


# -- the source, read twice

SIZE = 3 * BLOCK + 777
WRONG = BLOCK + 4242
"""Where the first read of the source's second block goes wrong."""


@contextmanager
def scripted(folder: Path, size: int, choose: str) -> Iterator[str]:
    """An NBD server that runs `choose` in `folder` for every read, then serves the file `$f`."""
    serve = 'dd if="$f" skip=$4 count=$3 iflag=skip_bytes,count_bytes bs=1M status=none'
    script = f"cd {folder}; {choose}; {serve}"
    with moving.nbdkit(folder, "eval", f"get_size=echo {size}", f"pread={script}", name="scripted") as uri:
        yield uri


@contextmanager
def unreliable(folder: Path, *wrong: str) -> Iterator[str]:
    """Reads of the second block are served from the files `wrong`, one after the other; then from `good`."""
    good = moving.make_disk(folder / "good", SIZE, [(0, SIZE)])
    for number, name in enumerate(dict.fromkeys(wrong), start=1):
        if name != "good":
            content = bytearray(good.read_bytes())
            content[WRONG] ^= number
            (folder / name).write_bytes(content)
    tries = "; ".join(
        f"if [ $f = good ] && [ -z $done ] && mkdir turn-{turn} 2>/dev/null; then f={name}; done=1; fi"
        for turn, name in enumerate(wrong)
    )
    with scripted(folder, SIZE, f"f=good; done=; if [ $4 = {BLOCK} ]; then {tries}; fi") as uri:
        yield uri


def reread_spec(tmp_path: Path, uri: str, *, verify_source: bool = True) -> TransferSpec:
    """A copy that reads its source twice."""
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(uri, SIZE, tmp_path / "t"))
    return msgspec.structs.replace(spec, verify_source=verify_source)


def done_of(ran: moving.Ran) -> DiskResult:
    assert ran.result.ok, ran.lines
    return ran.result.disks[0]


def test_a_byte_flipped_before_the_first_read_is_not_seen_by_one_read(tmp_path: Path) -> None:
    with unreliable(tmp_path, "bad") as uri:
        done = done_of(moving.run(reread_spec(tmp_path, uri, verify_source=False)))
    assert (done.proof, done.digest) == (Proof.AS_READ, digest_of_path(tmp_path / "bad"))


def test_a_byte_flipped_before_the_first_read_is_found_and_mended_by_a_second(tmp_path: Path) -> None:
    with unreliable(tmp_path, "bad") as uri:
        ran = moving.run(reread_spec(tmp_path, uri))
    done = done_of(ran)
    assert ran.said("a second read of the source differs in 1 blocks")
    assert (done.proof, done.reread, done.digest) == (Proof.REREAD, True, digest_of_path(tmp_path / "good"))
    assert moving.same_bytes(tmp_path / "good", tmp_path / "t", SIZE)


def test_a_byte_flipped_in_the_second_read_only_is_outvoted_by_the_third(tmp_path: Path) -> None:
    with unreliable(tmp_path, "good", "bad") as uri:
        ran = moving.run(reread_spec(tmp_path, uri))
    assert ran.said("differs in 1 blocks")
    assert done_of(ran).digest == digest_of_path(tmp_path / "good") == digest_of_path(tmp_path / "t")


def test_a_source_that_never_says_the_same_twice_fails_with_offset_and_digests(tmp_path: Path) -> None:
    with unreliable(tmp_path, "bad", "worse", "worst") as uri:
        failure = moving.run(reread_spec(tmp_path, uri)).result.failure
        assert failure is not None
        assert (failure.code, failure.disk, failure.offset, failure.retryable) == ("source-unstable", "0", BLOCK, False)
        for name in ("bad", "worse", "worst"):
            content = (tmp_path / name).read_bytes()
            assert block_digest(content[BLOCK : 2 * BLOCK]).hex() in failure.message
        again = done_of(moving.run(reread_spec(tmp_path, uri)))
    assert again.bytes_read == BLOCK  # only that block was no longer proven
    assert moving.same_bytes(tmp_path / "good", tmp_path / "t", SIZE)


@pytest.mark.parametrize("compression", ["", "gzip"], ids=["raw", "stream"])
def test_a_second_read_is_recorded_beside_the_sources_own_checksum(tmp_path: Path, compression: str) -> None:
    content = moving.make_disk(tmp_path / "s", SIZE, [(0, SIZE)]).read_bytes()
    stored = gzip.compress(content, compresslevel=0) if compression else content
    (tmp_path / "member").write_bytes(stored)
    found = {}
    for checksum in ("", f"sha256:{hashlib.sha256(stored).hexdigest()}"):
        member = OvaMember(
            path=str(tmp_path / "member"),
            offset=0,
            length=len(stored),
            format="raw",
            compression=compression,
            checksum=checksum,
        )
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(member, SIZE, tmp_path / f"t{bool(checksum)}"))
        done = done_of(moving.run(msgspec.structs.replace(spec, verify_source=True)))
        found[bool(checksum)] = (done.proof, done.reread, bool(done.source_digest))
    assert found == {False: (Proof.REREAD, True, False), True: (Proof.SOURCE_CHECKED, True, True)}


def test_the_command_asks_for_a_second_read_too(tmp_path: Path) -> None:
    with unreliable(tmp_path, "bad") as uri:
        spec = reread_spec(tmp_path, uri, verify_source=False)
        with moving.running_mover(tmp_path, spec, "--verify-source") as mover:
            said, _ = mover.communicate(timeout=300)
    assert mover.returncode == 0, said
    [done] = msgspec.json.decode(said.splitlines()[-1])["disks"]
    assert (done["proof"], done["reread"], done["verify"]) == ("re-read", True, "full")
    assert done["digest"] == digest_of_path(tmp_path / "good")
