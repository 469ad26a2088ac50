"""What a mover takes of its node: one disk fits in 64 MiB, each further one that runs beside it in 16 more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from lab.state import PYTHON_PATH
from mover.digest import ALGORITHM, block_digest
from mover.geometry import BLOCK_BYTES
from mover.journal import Journal, journal_path
from mover.journal_format import PROVEN, Header, Record
from mover.targets.open import open_target
from mtv.model.transfer import TransferSpec, Verify
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 64 * MIB
TIB = 1 << 40
DIGEST = block_digest(b"of whatever it holds")
# A process of its own, because the kernel counts what a child shares with a large parent before it is another program.
MEASURE = """
import resource, subprocess, sys
with open(sys.argv[1], "wb") as said:
    code = subprocess.call(sys.argv[2:], stdout=said)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peak_bytes(folder: Path, spec: TransferSpec) -> int:
    """The most memory that the mover of this spec holds at once."""
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    mover = [sys.executable, "-m", "mover", "transfer", "--spec", str(folder / "spec.json")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder / "said"), *mover],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        check=True,
        timeout=300,
    )
    return int(done.stdout) * 1024


def test_memory_is_bounded_for_one_disk_and_for_each_further_one(tmp_path: Path) -> None:
    def spec_of(disks: int) -> TransferSpec:
        wanted = [moving.disk_of(uri, SIZE, tmp_path / f"{n} of {disks}", id=str(n)) for n in range(disks)]
        return moving.spec_of(tmp_path / f"work of {disks}", *wanted)

    with moving.nbdkit(tmp_path, "pattern", str(SIZE)) as uri:
        one = peak_bytes(tmp_path, spec_of(1))
        four = peak_bytes(tmp_path, spec_of(4))
    assert one <= 64 * MIB
    assert four - one <= 3 * 16 * MIB


def test_memory_is_bounded_where_a_terabyte_is_resumed(tmp_path: Path) -> None:
    """Its journal has a record for every block: the most that one can hold after a copy without faults."""
    with moving.nbdkit(tmp_path, "pattern", str(TIB)) as uri:
        disk = moving.disk_of(uri, TIB, tmp_path / "t")
        with contextlib.closing(open_target(disk.target, TIB)) as target:
            target.prepare()
            header = Header(
                identity=disk.identity, generation=disk.generation, size_bytes=TIB, algorithm=ALGORITHM,
                target=target.mark, epoch=1,
            )  # fmt: skip
        (tmp_path / "w").mkdir()
        blocks = range(TIB // BLOCK_BYTES)
        Journal.replace(journal_path(tmp_path / "w", disk.id), header, (Record(n, 1, PROVEN, DIGEST) for n in blocks))
        peak = peak_bytes(tmp_path, moving.spec_of(tmp_path / "w", disk, verify=Verify.OFF))
    assert peak <= 64 * MIB
    result = msgspec.json.decode((tmp_path / "said").read_bytes().splitlines()[-1])
    assert result["disks"][0]["bytes_resumed"] == TIB
