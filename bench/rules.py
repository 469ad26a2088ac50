"""What validation costs: all of a provider's rules over many workload documents, imports apart.

    nice .venv/bin/python bench/rules.py

`judging` is what a task does once it runs: rules are loaded and compiled, the suite runs over the documents, concerns
come back. `mtv rules evaluate` reads JSON Lines in a process of its own, whose clock starts when all that the command
needs is loaded. The best of some rounds counts.
Documents are those of vSphere VMs of two disks and two cards; a tenth of them gives rules something to say.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RULES = Path(__file__).parents[1] / "include" / "validation_rules"
JUDGING, EVALUATE = "judging", "`mtv rules evaluate`"
BARS_S = {(1000, EVALUATE): 2.0, (5000, JUDGING): 1.0}
"""CPU seconds, after imports."""
LOAD = "import mtv.cli, mtv.cli.rules, great_expectations, mtv.validation.expectation, pandas"
TIMED = f"""\
import sys, time
{LOAD}
before = time.process_time()
code = mtv.cli.main(sys.argv[1:])
print(time.process_time() - before, file=sys.stderr)
sys.exit(code)
"""


def main() -> int:
    """Measure, print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"imports: {_imports():.2f} CPU-s\n")
    print("| documents | what | CPU after imports | bar | largest memory | concerns |\n|---|---|---|---|---|---|")
    missed = False
    for count in arguments.documents:
        documents = [_document(number) for number in range(count)]
        for what, measure in ((JUDGING, _judge), (EVALUATE, _evaluate)):
            cpu, memory, concerns = min(measure(documents) for _ in range(arguments.rounds))
            bar = BARS_S.get((count, what))
            verdict = "" if bar is None else f"{bar:.0f} s: {'met' if cpu <= bar else 'MISSED'}"
            print(f"| {count} | {what} | {cpu:.2f} s | {verdict} | {memory:.0f} MiB | {concerns} |", flush=True)
            missed |= bar is not None and cpu > bar
    return int(missed)


def _imports() -> float:
    """CPU seconds of a process that loads what `mtv rules evaluate` loads, and does nothing with it."""
    before = _cpu_of_children()
    subprocess.run([sys.executable, "-c", LOAD], check=True, env={**os.environ, "GX_ANALYTICS_ENABLED": "false"})
    return _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _judge(documents: list[dict[str, Any]]) -> tuple[float, float, int]:
    from mtv.validation import evaluate, load_rules

    evaluate(load_rules(RULES, "vsphere"), documents[:1])  # what is imported on the way
    before = time.process_time()
    said = evaluate(load_rules(RULES, "vsphere"), documents)
    return time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, sum(map(len, said))


def _evaluate(documents: list[dict[str, Any]]) -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory(prefix="mtv-bench-") as name:
        file = Path(name) / "vms.jsonl"
        file.write_text("".join(json.dumps(document) + "\n" for document in documents))
        command = [sys.executable, "-c", TIMED, "rules", "evaluate", "--provider", "vmware", str(file)]
        environment = {**os.environ, "MTV_RULES_FOLDER": str(RULES), "GX_ANALYTICS_ENABLED": "false"}
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    cpu = float(ended.stderr.splitlines()[-1])
    concerns = sum(len(json.loads(line)["concerns"]) for line in ended.stdout.splitlines())
    return cpu, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, concerns


def _document(number: int) -> dict[str, Any]:
    odd = number % 10 == 0
    return {
        "id": f"vm-{number}",
        "name": f"VM {number}" if odd else f"vm-{number}",
        "path": f"dc1/prod/vm-{number}",
        "uuid": f"4203a1b2-0000-4000-8000-{number:012d}",
        "firmware": "efi",
        "secureBoot": False,
        "powerState": "poweredOn",
        "connectionState": "connected",
        "isTemplate": False,
        "snapshot": {"kind": "", "id": "snapshot-1" if odd else ""},
        "changeTrackingEnabled": not odd,
        "consolidationNeeded": False,
        "faultToleranceEnabled": False,
        "cpuAffinity": [1] if odd else [],
        "cpuHotAddEnabled": odd,
        "cpuHotRemoveEnabled": False,
        "memoryHotAddEnabled": odd,
        "nestedHVEnabled": False,
        "numaNodeAffinity": [],
        "cpuCount": 2,
        "coresPerSocket": 1,
        "memoryMB": 4096,
        "balloonedMemory": 0,
        "storageUsed": 20 << 30,
        "guestId": "debian12_64Guest",
        "guestName": "Debian GNU/Linux 12 (64-bit)",
        "hostName": f"vm-{number}.example.test",
        "ipAddress": "10.0.0.1",
        "toolsStatus": "toolsOk",
        "toolsRunningStatus": "guestToolsRunning",
        "toolsVersionStatus2": "guestToolsCurrent",
        "diskEnableUuid": False,
        "tpmEnabled": False,
        "host": {
            "id": "host-1", "name": "esx-1", "inMaintenance": False, "status": "green",
            "cluster": {"id": "domain-1", "name": "cl-1", "dasEnabled": odd, "drsEnabled": odd, "drsBehavior": "manual",
                        "dpmEnabled": False},
        },
        "devices": [{"kind": "VirtualDisk", "key": 2000 + key} for key in range(2)]
        + [{"kind": "VirtualVmxnet3", "key": 4000 + key} for key in range(2)],
        "controllers": [{"key": 1000, "bus": "scsi", "disks": [2000, 2001]}],
        "disks": [
            {"key": 2000 + key, "bus": "scsi", "file": f"[ds-1] vm-{number}/disk-{key}.vmdk", "capacity": 20 << 30,
             "shared": False, "rdm": odd, "physicalMode": False, "mode": "persistent", "changeTrackingEnabled": not odd,
             "datastore": {"id": "datastore-1", "name": "ds-1"}}
            for key in range(2)
        ],
        "nics": [
            {"mac": f"00:50:56:00:{number >> 8 & 255:02x}:{number & 255:02x}", "model": "vmxnet3", "order": key,
             "network": {"id": "network-1", "name": "VM Network"}}
            for key in range(2)
        ],
        "networks": [{"id": "network-1", "name": "VM Network"}],
        "guestNetworks": [{"device": "0", "ip": "10.0.0.1", "origin": "dhcp", "prefix": 24}],
        "guestIpStacks": [{"device": "0", "gateway": "10.0.0.254"}],
        "guestDisks": [{"key": 2000, "diskPath": "/", "capacity": 20 << 30, "freeSpace": 1 << (20 if odd else 33)}],
        "customValues": [],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
