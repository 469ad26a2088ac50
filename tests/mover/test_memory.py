"""What a mover takes of its node: one disk fits in 64 MiB, each further one that runs beside it in 16 more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from lab.state import PYTHON_PATH
from tests.mover import moving
from tests.mover.moving import MIB

SIZE = 64 * MIB
# A process of its own, because the kernel counts what a child shares with a large parent before it is another program.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peak_bytes(folder: Path, uri: str, disks: int) -> int:
    """The most memory that a mover of so many disks holds at once."""
    folder.mkdir()
    wanted = [moving.disk_of(uri, SIZE, folder / f"t{n}", id=str(n)) for n in range(disks)]
    (folder / "spec.json").write_bytes(msgspec.json.encode(moving.spec_of(folder / "w", *wanted)))
    mover = [sys.executable, "-m", "mover", "transfer", "--spec", str(folder / "spec.json")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *mover],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        check=True,
        timeout=300,
    )
    return int(done.stdout) * 1024


def test_memory_is_bounded_for_one_disk_and_for_each_further_one(tmp_path: Path) -> None:
    with moving.nbdkit(tmp_path, "pattern", str(SIZE)) as uri:
        one = peak_bytes(tmp_path / "one", uri, 1)
        four = peak_bytes(tmp_path / "four", uri, 4)
    assert one <= 64 * MIB
    assert four - one <= 3 * 16 * MIB
