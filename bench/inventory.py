"""What an inventory of a vCenter costs beside the bare reading of the same properties.

    nice .venv/bin/python bench/inventory.py --vms 1000 5000

The bare reading is one PropertyCollector call for the same paths of the same objects, made with the same library: all
that it does is to receive and parse the answer. The inventory reads page by page, builds a workload document per VM and
resolves what it refers to. Each measurement is a process of its own, both by turns; the medians are compared.

With `--memory` nothing is timed: each reading is made once under Python's own bookkeeping of memory, which tells what
the result takes and what the reading took beyond it at its peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from lab.process import stop_daemon
from lab.vcenter.part import start_server
from mtv.model.connection import Connection

BAR = 1.3
USER, PASSWORD = "administrator@vsphere.local", "bench"
HEAD = """\
| VMs | what | wall, median (range) | CPU of the reader | largest memory | wall ÷ bare | CPU ÷ bare |
|---|---|---|---|---|---|---|"""


def main() -> int:
    """Measure what was asked for, print the table; 1 when a ratio is over the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--child", choices=sorted(_KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--connection", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measure(arguments.child, arguments.connection, traced=arguments.memory)))
        return 0
    if arguments.memory:
        for vms in arguments.vms:
            _weigh(vms)
        return 0
    print(HEAD, flush=True)
    return int(sum(_compare(vms, arguments.rounds) > BAR for vms in arguments.vms) > 0)


def _compare(vms: int, rounds: int) -> float:
    """Start a vCenter with so many VMs, measure, print two rows and a verdict; return inventory ÷ bare."""
    with tempfile.TemporaryDirectory(prefix="mtv-bench-") as name:
        folder = Path(name)
        connection = _vcenter(folder, vms)
        try:
            found: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
            for _ in range(rounds):
                for kind in _KINDS:
                    found[kind].append(_in_a_process(kind, connection))
        finally:
            stop_daemon(folder / "vcenter.pid")
    medians = {kind: statistics.median(one["wall"] for one in runs) for kind, runs in found.items()}
    cpus = {kind: statistics.median(one["cpu"] for one in runs) for kind, runs in found.items()}
    for kind, runs in found.items():
        walls = [one["wall"] for one in runs]
        if any(one["vms"] != vms for one in runs):
            raise AssertionError(f"{kind} read {[one['vms'] for one in runs]} VMs, not {vms}")
        print(
            f"| {vms} | {kind} | {medians[kind]:.2f} s ({min(walls):.2f} to {max(walls):.2f}) "
            f"| {cpus[kind]:.2f} s | {max(one['memory'] for one in runs):.0f} MiB "
            f"| {medians[kind] / medians['bare']:.2f} | {cpus[kind] / cpus['bare']:.2f} |",
            flush=True,
        )
    ratio = medians["inventory"] / medians["bare"]
    print(f"| {vms} | wall ÷ bare at most {BAR}: {'met' if ratio <= BAR else 'MISSED'} | | | | | |", flush=True)
    return ratio


def _weigh(vms: int) -> None:
    """Start a vCenter with so many VMs and print what each reading holds."""
    with tempfile.TemporaryDirectory(prefix="mtv-bench-") as name:
        folder = Path(name)
        connection = _vcenter(folder, vms)
        try:
            for kind in _KINDS:
                one = _in_a_process(kind, connection, "--memory")
                print(f"| {vms} | {kind} | {one['held']:.1f} MiB | {one['peak'] - one['held']:.1f} MiB |", flush=True)
        finally:
            stop_daemon(folder / "vcenter.pid")


def _vcenter(folder: Path, vms: int) -> Path:
    """Start a vCenter whose VMs have two disks and two cards each, on 8 hosts; return a file with its connection."""
    (folder / "scratch").mkdir()
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    hosts = [f"esx-{number}.lab" for number in range(8)]
    datastores = [f"ds-{number}" for number in range(4)]
    each = vms // len(hosts)
    inventory = {
        "Users": [{"Name": USER, "PasswordFile": str(password)}],
        "Scratch": str(folder / "scratch"),
        "Datacenters": [
            {
                "Name": "dc1",
                "Folders": ["prod"],
                "Datastores": datastores,
                "Networks": ["VM Network"],
                "Portgroups": ["dvpg-app"],
                "Clusters": [{"Name": "cl-1", "Hosts": hosts}],
            }
        ],
        "VMs": [
            {
                "Name": f"vm-{number}-%04d",
                "Count": each + (vms - each * len(hosts) if number == 0 else 0),
                "Folder": "prod",
                "Host": host,
                "Datastore": datastores[number % len(datastores)],
                "GuestID": "debian12_64Guest",
                "GuestName": "Debian GNU/Linux 12 (64-bit)",
                "CPUs": 2,
                "MemoryMB": 2048,
                "NICs": [{"Network": "VM Network"}, {"Network": "dvpg-app"}],
                "Disks": [{"SizeMB": 8, "Controller": "pvscsi"}, {"SizeMB": 8, "Controller": "pvscsi"}],
            }
            for number, host in enumerate(hosts)
        ],
    }
    (folder / "inventory.json").write_text(json.dumps(inventory))
    port = start_server(folder)
    file = folder / "connection.json"
    file.touch(0o600)
    file.write_text(json.dumps({"port": port, "ca_file": str(folder / "ca.pem")}))
    return file


def _in_a_process(kind: str, connection: Path, *more: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, "--connection", str(connection), *more]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(ended.stdout)
    return measured


def _measure(kind: str, file: Path, *, traced: bool) -> dict[str, float]:
    """Log in, then measure one reading: seconds, CPU seconds, MiB at the largest, VMs read.

    `traced` also tells what Python's objects take afterwards and took at their peak, in MiB, and makes times worthless.
    """
    from mtv.providers.registry import open_provider

    known = json.loads(file.read_text())
    connection = Connection(
        conn_id="bench", conn_type="vsphere", host="127.0.0.1", port=known["port"], login=USER, password=PASSWORD,
        extra={"ca_file": known["ca_file"]},
    )  # fmt: skip
    with open_provider(connection) as provider:
        provider.check()
        if traced:
            gc.collect()
            tracemalloc.start()
        begin, cpu = time.monotonic(), time.process_time()
        found, count = _KINDS[kind](provider)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        gc.collect()
        held, peak = tracemalloc.get_traced_memory()  # both 0 unless traced
        del found
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "wall": wall, "cpu": cpu, "memory": memory, "vms": count, "held": held / 2**20, "peak": peak / 2**20
    }  # fmt: skip


def _bare(provider: Any) -> tuple[Any, int]:
    """Read the paths of the inventory in one call; nothing is made of the answer. Return it and how many VMs it has."""
    from pyVmomi import vim, vmodl

    from mtv.providers.vmware import collect

    collector = vmodl.query.PropertyCollector
    content = provider.session.open().content
    wanted = {"VirtualMachine": collect.VM_PATHS, **collect.LISTED_PATHS}
    types = {name: getattr(vim, name, None) or getattr(vim.dvs, name) for name in wanted}
    view = content.viewManager.CreateContainerView(content.rootFolder, list(types.values()), True)
    walk = collector.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    spec = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[collector.PropertySpec(type=types[name], pathSet=list(paths)) for name, paths in wanted.items()],
    )
    answer = content.propertyCollector.RetrievePropertiesEx([spec], collector.RetrieveOptions())
    if answer.token:
        raise AssertionError("the vCenter cut its answer into pages although none were asked for")
    return answer, sum(isinstance(entry.obj, vim.VirtualMachine) for entry in answer.objects)


def _inventory(provider: Any) -> tuple[Any, int]:
    from mtv.inventory import snapshot

    seen = snapshot(provider)
    return seen, len(seen.vms)


_KINDS = {"bare": _bare, "inventory": _inventory}


if __name__ == "__main__":
    sys.exit(main())
