"""Which device of KubeVirt stands in for a disk or card of the source.

A guest that was converted, or is to be, gets virtio; an unconverted one gets what every guest knows. A guest that ran
on KVM before has drivers for what it has there, so it keeps that, as far as KubeVirt offers it.
"""

from __future__ import annotations

import hashlib
import re

from mtv.model.source import SourceDisk, SourceNic, SourceVm

MAX_SERIAL = 20
"""Longest disk serial that a virtio disk shows to its guest."""
SRIOV = "sriov"
"""The model of a card that is a virtual function of the node's hardware."""

_KVM_BUSES = {"scsi": "scsi", "sata": "sata", "ide": "sata"}  # q35 has no IDE
_KVM_CARDS = {
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
    "rtl8139_virtio": "virtio",
    "pci_passthrough": SRIOV,
}


def disk_bus(vm: SourceVm, disk: SourceDisk, *, raw: bool) -> str:
    """Return scsi, sata or virtio."""
    if vm.is_kvm_guest:
        return _KVM_BUSES.get(disk.bus, "virtio")
    return "sata" if raw else "virtio"


def card_model(vm: SourceVm, nic: SourceNic, *, raw: bool) -> str:
    """Return a model of KubeVirt, or `SRIOV`."""
    if vm.is_kvm_guest:
        return _KVM_CARDS.get(nic.model, "virtio")
    return "e1000e" if raw else "virtio"


def tablet_bus(vm: SourceVm, *, raw: bool) -> str:
    """Return the bus of the pointing device."""
    return "usb" if raw and not vm.is_kvm_guest else "virtio"


def disk_serial(vm: SourceVm, disk: SourceDisk) -> str:
    """Return the serial that the guest sees: the source's in at most 20 safe characters, else a hash.

    A KVM guest has seen a longer one too: whole on SCSI, its first 20 characters on virtio, as it will again.
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]", "", disk.serial)
    if clean and (vm.is_kvm_guest or len(clean) <= MAX_SERIAL):
        return clean
    return hashlib.sha256((clean or disk.identity).encode()).hexdigest()[:MAX_SERIAL]
