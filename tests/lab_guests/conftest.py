"""Converts guests as the product's conversion does, to prove that the guests can be converted at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.appliance import appliance

Convert = Callable[[Sequence[Path]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Runs virt-v2v-in-place on raw disks, its appliance under emulation."""

    def run(disks: Sequence[Path]) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment = {
            **os.environ,
            "LIBGUESTFS_BACKEND": "direct",
            "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
            "LIBGUESTFS_PATH": str(appliance()),
            "TMPDIR": str(scratch),
        }
        domain = tmp_path / "domain.xml"
        domain.write_text(_domain(disks))
        argv = ["nice", "virt-v2v-in-place", "-i", "libvirtxml", str(domain)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=550, check=False)

    return run


def _domain(disks: Sequence[Path]) -> str:
    """A libvirt domain with these raw disks on one SCSI controller."""
    listed = "".join(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        f"<source file='{disk}'/><target dev='sd{'abcd'[number]}' bus='scsi'/></disk>"
        for number, disk in enumerate(disks)
    )
    return (
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64'>hvm</type></os><devices>{listed}</devices></domain>"
    )
