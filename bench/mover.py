"""The mover against nbdcopy, qemu-img, dd and curl, side by side in one run, from the same source to a file of the
same disk.

    python bench/mover.py --size-mib 4096 --rounds 3 --write docs/bench-mover.md
    python bench/mover.py --cases nbd-sparse https-dense

The mover runs as in its pods: Debian's Python with the three packages of the image. Sources are an nbdkit server on a
Unix socket, a raw file, and ovirt-imageio's HTTPS, read once as any web server and once by its own protocol. Every
method ends with its target on the medium (fdatasync). The source is dropped from the page cache before each run and the
order of methods is shuffled in each round. A ratio is the median over rounds of wall time divided by that of the case's
first method in the same round, so that a busy machine weighs on both alike. CPU seconds are those of the program and of
the server; memory is the program's peak alone.
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
from pathlib import Path
from typing import NamedTuple

import blake3
from mover_sources import Offer, Served, https, imageio_disk, nbd, raw_file

from lab.cluster.mover_image import SYSTEM_PYTHON, mover_image, site_packages
from lab.state import PYTHON_PATH

MIB = 1 << 20
STEP = 4 * MIB


class Case(NamedTuple):
    """A source to copy: its title, the share of it that holds data, its server, the other programs that can read it
    (the first is what is compared with), and whether it is slowed down.
    """

    title: str
    share: float
    served: Served
    peers: tuple[str, ...]
    is_slow: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """All that copy it."""
        return (*self.peers, "mover", "mover + read-back")


class Measured(NamedTuple):
    """One run."""

    wall_s: float
    cpu_s: float
    peak_mib: float


_NBD, _FILE, _WEB = ("nbdcopy", "qemu-img convert"), ("dd", "qemu-img convert"), ("curl",)
CASES = {
    "nbd-dense": Case("NBD, dense", 1.0, nbd, _NBD),
    "nbd-sparse": Case("NBD, 25 % allocated", 0.25, nbd, _NBD),
    "nbd-slow": Case("NBD, 25 % allocated, 300 MB/s", 0.25, nbd, _NBD, is_slow=True),
    "nbd-slow-dense": Case("NBD, dense, 300 MB/s", 1.0, nbd, _NBD, is_slow=True),
    "file-dense": Case("raw file, dense", 1.0, raw_file, _FILE),
    "file-sparse": Case("raw file, 25 % allocated", 0.25, raw_file, _FILE),
    "https-dense": Case("HTTPS, dense", 1.0, https, _WEB),
    "imageio-sparse": Case("ovirt-imageio, 25 % allocated", 0.25, imageio_disk, _WEB),
}


def main() -> None:
    """Run and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--write", type=Path, help="write the table there as Markdown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-mover-") as folder:
        chosen = [CASES[name] for name in arguments.cases]
        text = report(Path(folder), arguments.size_mib * MIB, arguments.rounds, chosen)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def report(folder: Path, size: int, rounds: int, cases: list[Case]) -> str:
    """The whole page."""
    loads = [os.getloadavg()[0]]
    results: dict[Case, dict[str, list[Measured]]] = {}
    for case in cases:
        source = folder / "source"
        make_source(source, size, case.share)
        runs: dict[str, list[Measured]] = {method: [] for method in case.methods}
        for number in range(rounds):
            order = list(case.methods)
            random.Random(number).shuffle(order)
            for method in order:
                runs[method].append(measure(method, case, source, folder, size))
                print(case.title, method, runs[method][-1], file=sys.stderr)
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
    with case.served(source, folder, case.is_slow) as offer:
        argv = command(method, offer, target, work, size)
        before, began = cpu_of(offer.pid), time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment())
        _, status, usage = os.wait4(process.pid, 0)
        if method in ("qemu-img convert", "curl"):
            subprocess.run(["sync", "-d", target], check=True)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, argv
        cpu = usage.ru_utime + usage.ru_stime + cpu_of(offer.pid) - before
    subprocess.run(["cmp", source, target], check=True)
    return Measured(wall, cpu, usage.ru_maxrss / 1024)


def command(method: str, offer: Offer, target: Path, work: Path, size: int) -> list[str | Path]:
    """The argv of a method. Peers get their best: a fresh sparse target that they may take for zeros."""
    if method.startswith("mover"):
        spec = {
            "plan": "bench",
            "run": "1",
            "vm": "bench",
            "epoch": 1,
            "work_dir": str(work),
            "credentials_dir": str(offer.credentials),
            "verify": "full" if "read-back" in method else "off",
            "disks": [
                {
                    "id": "0",
                    "size_bytes": size,
                    "identity": "bench",
                    "generation": "1",
                    "source": offer.source,
                    "target": {"path": str(target)},
                }
            ],
        }
        (work / "spec.json").write_text(json.dumps(spec))
        return [SYSTEM_PYTHON, "-m", "mover", "transfer", "--spec", work / "spec.json"]
    if method == "curl":
        return ["curl", "--fail", "--silent", "--cacert", offer.credentials / "ca.pem", "-o", target, offer.address]
    if method == "dd":
        options = ["iflag=direct", "oflag=direct", "conv=fdatasync,sparse", "status=none"]
        return ["dd", f"if={offer.address}", f"of={target}", "bs=4M", *options]
    with target.open("wb") as file:
        file.truncate(size)
    if method == "nbdcopy":
        return ["nbdcopy", "--flush", "--destination-is-zero", offer.address, target]
    fast = ["-n", "-W", "-m", "8", "-t", "none", "--target-is-zero"]
    return ["qemu-img", "convert", *fast, "-f", "raw", "-O", "raw", offer.address, target]


def environment() -> dict[str, str]:
    """The environment with this repository and the packages of the mover's image on Python's path."""
    return {**os.environ, "PYTHONPATH": f"{PYTHON_PATH}{os.pathsep}{site_packages(mover_image())}"}


def drop_cache(path: Path) -> None:
    """Make the next read come from the medium."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu_of(pid: int) -> float:
    """CPU seconds that a server has used; 0 is none."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def page(results: dict[Case, dict[str, list[Measured]]], size: int, rounds: int, loads: list[float]) -> str:
    """Markdown."""
    lines = [
        "# The mover beside other programs that copy disks",
        "",
        f"A disk of {size // MIB} MiB to a file; {rounds} rounds, shuffled; everybody's"
        f" data is on the medium at the end. {os.cpu_count()} cores, load average {min(loads):.1f} to {max(loads):.1f}"
        f" during the run, {time.strftime('%Y-%m-%d')}. Made by `bench/mover.py`.",
        "",
        "The ratio is the median over the rounds of wall time by that of the first method in the same round. Every run"
        " of the mover hashes each block and keeps its journal; a started Python is in its time.",
    ]
    for case, runs in results.items():
        lines += ["", f"## {case.title}", "", f"| method | wall s (spread) | ÷ {case.peers[0]} | CPU s | peak MiB |"]
        lines += ["|---|---|---|---|---|"]
        for method, measured in runs.items():
            walls = [run.wall_s for run in measured]
            ratios = [run.wall_s / peer.wall_s for run, peer in zip(measured, runs[case.peers[0]], strict=True)]
            lines.append(
                f"| {method} | {statistics.median(walls):.2f} ({min(walls):.2f} to {max(walls):.2f})"
                f" | {statistics.median(ratios):.2f} | {statistics.median(run.cpu_s for run in measured):.2f}"
                f" | {max(run.peak_mib for run in measured):.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
