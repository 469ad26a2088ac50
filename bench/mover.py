"""The mover against nbdcopy and qemu-img, side by side in one run, from the same NBD server to a file of the same disk.

    python bench/mover.py --size-mib 4096 --rounds 3 --write docs/bench-mover.md

Every method reads an nbdkit server over a Unix socket and ends with its target on the medium (fdatasync). The source
is dropped from the page cache before each run and the order of methods is shuffled in each round. A ratio is the median
over rounds of wall time divided by that of nbdcopy in the same round, so that a busy machine weighs on both alike.
CPU seconds are those of the program and of the server; memory is the program's peak alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import blake3

REPO = Path(__file__).parents[1]
MIB = 1 << 20
STEP = 4 * MIB
RATE_BITS = 2_400_000_000
"""300 MB/s, as nbdkit's rate filter counts."""


class Case(NamedTuple):
    """A source to copy: its name in the table, the share of it that holds data, and whether it is slowed down."""

    name: str
    share: float
    is_slow: bool


class Measured(NamedTuple):
    """One run."""

    wall_s: float
    cpu_s: float
    peak_mib: float


CASES = (
    Case("dense", 1.0, False),
    Case("25 % allocated", 0.25, False),
    Case("25 % allocated, 300 MB/s", 0.25, True),
)
METHODS = ("nbdcopy", "qemu-img convert", "mover", "mover + read-back")


def main() -> None:
    """Run and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk")
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-mover-") as folder:
        text = report(Path(folder), arguments.size_mib * MIB, arguments.rounds)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def report(folder: Path, size: int, rounds: int) -> str:
    """The whole page."""
    loads = [os.getloadavg()[0]]
    results: dict[Case, dict[str, list[Measured]]] = {}
    for case in CASES:
        source = folder / "source"
        make_source(source, size, case.share)
        runs: dict[str, list[Measured]] = {method: [] for method in METHODS}
        for number in range(rounds):
            order = list(METHODS)
            random.Random(number).shuffle(order)
            for method in order:
                runs[method].append(measure(method, case, source, folder, size))
                print(case.name, method, runs[method][-1], file=sys.stderr)
            loads.append(os.getloadavg()[0])
        results[case] = runs
    return page(results, size, rounds, loads)


def make_source(path: Path, size: int, share: float) -> None:
    """Random bytes in every nth stretch of 64 MiB, holes in the others."""
    noise = blake3.blake3(b"bench")
    every = round(1 / share)
    with path.open("wb") as file:
        file.truncate(size)
        for position in range(0, size, STEP):
            if position // (64 * MIB) % every == 0:
                file.seek(position)
                file.write(noise.digest(length=min(STEP, size - position), seek=position))
        os.fsync(file.fileno())


def measure(method: str, case: Case, source: Path, folder: Path, size: int) -> Measured:
    """Run one method once; its result is compared with the source."""
    target, work = folder / "target", folder / "work"
    for old in (target, *work.glob("*")):
        old.unlink(missing_ok=True)
    work.mkdir(exist_ok=True)
    drop_cache(source)
    with server(source, folder, is_slow=case.is_slow) as (uri, pid):
        argv = command(method, uri, target, work, size)
        before, began = cpu_of(pid), time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment())
        _, status, usage = os.wait4(process.pid, 0)
        if method == "qemu-img convert":
            subprocess.run(["sync", "-d", target], check=True)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, argv
        cpu = usage.ru_utime + usage.ru_stime + cpu_of(pid) - before
    subprocess.run(["cmp", source, target], check=True)
    return Measured(wall, cpu, usage.ru_maxrss / 1024)


def command(method: str, uri: str, target: Path, work: Path, size: int) -> list[str | Path]:
    """The argv of a method. Peers get their best: a fresh sparse target that they may take for zeros."""
    if method.startswith("mover"):
        spec = {
            "plan": "bench",
            "run": "1",
            "vm": "bench",
            "epoch": 1,
            "work_dir": str(work),
            "verify": "full" if "read-back" in method else "off",
            "disks": [
                {
                    "id": "0",
                    "size_bytes": size,
                    "identity": "bench",
                    "generation": "1",
                    "source": {"type": "nbd", "uri": uri},
                    "target": {"path": str(target)},
                }
            ],
        }
        (work / "spec.json").write_text(json.dumps(spec))
        return [sys.executable, "-m", "mover", "transfer", "--spec", work / "spec.json"]
    with target.open("wb") as file:
        file.truncate(size)
    if method == "nbdcopy":
        return ["nbdcopy", "--flush", "--destination-is-zero", uri, target]
    fast = ["-n", "-W", "-m", "8", "-t", "none", "--target-is-zero"]
    return ["qemu-img", "convert", *fast, "-f", "raw", "-O", "raw", uri, target]


@contextmanager
def server(source: Path, folder: Path, *, is_slow: bool) -> Iterator[tuple[str, int]]:
    """An nbdkit server of the source: its URI and process id."""
    socket, pidfile = folder / "nbd.sock", folder / "nbd.pid"
    for old in (socket, pidfile):
        old.unlink(missing_ok=True)
    slow = (["--filter=rate"], [f"rate={RATE_BITS}", "burstiness=0.2"]) if is_slow else ([], [])
    argv = ["nbdkit", "-f", "-r", "-U", socket, "-P", pidfile, *slow[0], "file", source, "cache=none", *slow[1]]
    process = subprocess.Popen(argv)
    try:
        for _ in range(1000):
            if pidfile.exists():
                break
            time.sleep(0.01)
        yield f"nbd+unix:///?socket={socket}", process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def environment() -> dict[str, str]:
    """The environment with this repository on Python's path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "plugins")])}


def drop_cache(path: Path) -> None:
    """Make the next read come from the medium."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def page(results: dict[Case, dict[str, list[Measured]]], size: int, rounds: int, loads: list[float]) -> str:
    """Markdown."""
    lines = [
        "# The mover beside nbdcopy and qemu-img",
        "",
        f"A disk of {size // MIB} MiB over NBD (nbdkit, Unix socket) to a file; {rounds} rounds, shuffled; everybody's"
        f" data is on the medium at the end. {os.cpu_count()} cores, load average {min(loads):.1f} to {max(loads):.1f}"
        f" during the run, {time.strftime('%Y-%m-%d')}. Made by `bench/mover.py`.",
        "",
        "The ratio is the median over the rounds of wall time by nbdcopy's in the same round. Every run of the mover"
        " hashes each block and keeps its journal; a started Python is in its time.",
    ]
    for case, runs in results.items():
        lines += ["", f"## {case.name}", "", "| method | wall s (spread) | ÷ nbdcopy | CPU s | peak MiB |"]
        lines += ["|---|---|---|---|---|"]
        for method, measured in runs.items():
            walls = [run.wall_s for run in measured]
            ratios = [run.wall_s / peer.wall_s for run, peer in zip(measured, runs["nbdcopy"], strict=True)]
            lines.append(
                f"| {method} | {statistics.median(walls):.2f} ({min(walls):.2f} to {max(walls):.2f})"
                f" | {statistics.median(ratios):.2f} | {statistics.median(run.cpu_s for run in measured):.2f}"
                f" | {max(run.peak_mib for run in measured):.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
