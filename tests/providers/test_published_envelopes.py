"""Envelopes that other tools published: the samples of Cisco's COT (MIT licence beside them)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mtv.providers.ova.appliance import read_appliance
from mtv.providers.ova.refusal import Refused

SAMPLES = Path(__file__).parent / "samples" / "cot"
MIB = 1 << 20


@pytest.fixture(scope="module")
def appliances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The envelopes with the files that they name; those are not published, so the disks are empty ones of ours."""
    folder = tmp_path_factory.mktemp("cot")
    disk = folder / "disk.vmdk"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", disk, "16M"], check=True
    )
    for sample in SAMPLES.glob("*.ovf"):
        shutil.copy(sample, folder)
        for line in sample.read_text().split('href="')[1:]:
            shutil.copy(disk, folder / line.partition('"')[0])
    return folder


@pytest.mark.parametrize(
    ("name", "vm", "cpus", "memory_mib", "disks", "nics"),
    [
        ("csr1000v", "Cisco CSR 1000V Cloud Services Router", 1, 4096, 1, 3),
        ("csr1000v_2017", "Cisco CSR 1000V Cloud Services Router", 1, 4096, 1, 3),
        ("input", "test", 4, 4096, 1, 3),  # its default of three configurations
        ("ubuntu.2.0", "ubuntu", 1, 512, 1, 1),
        ("v0.9", "v0.9", 1, 8192, 1, 1),
        ("vmware", "vmw", 2, 1536, 1, 4),
    ],
)
def test_a_published_envelope_is_read(
    appliances: Path, name: str, vm: str, cpus: int, memory_mib: int, disks: int, nics: int
) -> None:
    (found,) = read_appliance(appliances / f"{name}.ovf", appliances)
    assert (found.name, found.cpu_count, found.memory_bytes) == (vm, cpus, memory_mib * MIB)
    assert (len(found.disks), len(found.nics)) == (disks, nics)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ersatz_ovf_3.0", "says no number of CPUs"),
        ("minimal", "says no number of CPUs"),
        ("invalid", "says no amount of memory"),
        ("iosv", "'flash2' has no file"),
    ],
)
def test_one_that_is_no_vm_is_refused_with_the_reason(appliances: Path, name: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read_appliance(appliances / f"{name}.ovf", appliances)
