"""Kill -9 at fifty seeded random moments: the journal claims nothing false, and every copy still ends identical."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from lab.state import PYTHON_PATH
from mover.digest import block_digest
from mover.geometry import BLOCK_BYTES, block_extent
from mover.journal import Journal
from mover.journal_format import Header
from mover.ledger import Ledger
from mtv.model.transfer import OvaMember, TransferSpec, Verify
from tests.mover import moving
from tests.mover.devices import loop_device

BLOCK = BLOCK_BYTES
SIZE = 11 * BLOCK + 4096 + 100
AREAS = [(index * BLOCK + 7 * index, 200_000) for index in (0, 1, 2, 4, 5, 7, 8, 9)] + [(SIZE - 4000, 4000)]
KILLS_PER_COPY = 5
LONGEST_S = 0.3
"""What a copy takes, since every block is a checkpoint. On a busy machine more kills come early, that is all."""


class Movers:
    """Movers in other processes, one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, spec: Path, *, kill_after_s: float = -1) -> int:
        """The exit code, or minus the signal that ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kill_after_s} {spec}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def movers() -> Iterator[Movers]:
    argv = [sys.executable, str(Path(__file__).with_name("killed_movers.py"))]
    with subprocess.Popen(
        argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PYTHON_PATH}
    ) as process:
        try:
            yield Movers(process)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(timeout=300)


def false_claims(journal: Path, target: Path) -> list[int]:
    """Blocks that the mover's recovery believes to be on the target and that are not. The journal is left as it is."""
    raw = journal.read_bytes() if journal.exists() else b""
    length = int.from_bytes(raw[8:12], "little")
    if len(raw) < 16 + length:
        return []  # killed before the header was whole: nothing is claimed
    copy = journal.with_suffix(".seen")
    copy.write_bytes(raw)
    opened = Journal.open(copy, msgspec.json.decode(raw[12 : 12 + length], type=Header), prepare=lambda: None)
    opened.journal.close()
    ledger = Ledger(opened.journal, None, opened.replayed, check_lock=lambda: None)  # type: ignore[arg-type]
    with target.open("rb") as file:
        return [index for index in ledger.proven() if content(file.fileno(), index) != ledger.digests[index]]


def content(fd: int, index: int) -> bytes:
    where = block_extent(index, SIZE)
    return block_digest(os.pread(fd, where.length, where.offset))


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("file", 8),
        ("device", 5),
        pytest.param("file", 30, marks=pytest.mark.long),
        pytest.param("device", 20, marks=pytest.mark.long),
    ],
)
def test_killed_at_any_moment_every_copy_ends_identical(tmp_path: Path, kind: str, kills: int) -> None:
    """Without read-back: it would mend what a false claim spoils."""
    seeded = random.Random(f"kill {kind}")
    source = moving.make_disk(tmp_path / "s", SIZE, AREAS)
    member = OvaMember(path=str(source), offset=0, length=SIZE, format="raw")
    killed = copies = 0
    with ExitStack() as stack:
        target = tmp_path / "t"
        if kind == "device":
            target = stack.enter_context(loop_device(tmp_path / "back", -(-SIZE // 512) * 512))
        pool = stack.enter_context(movers())
        while killed < kills:
            copies += 1
            if kind == "device":  # nothing of the copy before may pass for this one's
                target.write_bytes(b"\xa5" * SIZE)
            assert copies < 20 * kills, "the movers are always faster than they are killed"
            work = tmp_path / f"w{copies}"
            spec = write_spec(
                tmp_path,
                moving.spec_of(work, moving.disk_of(member, SIZE, target, block=kind == "device"), verify=Verify.OFF),
            )
            for _ in range(KILLS_PER_COPY):
                ended = pool.run(spec, kill_after_s=seeded.uniform(0, LONGEST_S))
                killed += ended == -9
                assert ended in (0, -9)
                assert false_claims(work / "journal-0.bin", target) == []
                if ended == 0:
                    break
            assert pool.run(spec) == 0
            assert moving.same_bytes(source, target, SIZE)


def write_spec(folder: Path, spec: TransferSpec) -> Path:
    path = folder / "spec.json"
    path.write_bytes(msgspec.json.encode(spec))
    return path
