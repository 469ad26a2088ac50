"""QEMU's command line for a guest on given virtual hardware: VMware's paravirtual devices or virtio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

EMULATOR = "qemu-system-x86_64"


class Bus(StrEnum):
    """What the disks hang on."""

    PVSCSI = "pvscsi"
    VIRTIO = "virtio"
    VIRTIO_SCSI = "virtio-scsi"
    IDE = "ide"


class Card(StrEnum):
    """Model of the network card."""

    VMXNET3 = "vmxnet3"
    VIRTIO = "virtio-net-pci"


@dataclass(frozen=True)
class Hardware:
    """A machine: disk bus, card, memory in MiB and number of CPUs."""

    bus: Bus
    card: Card
    memory_mb: int = 256
    cpu_count: int = 1


VMWARE = Hardware(Bus.PVSCSI, Card.VMXNET3)
KUBEVIRT = Hardware(Bus.VIRTIO, Card.VIRTIO)


def command(
    disks: Sequence[Path],
    hardware: Hardware,
    *,
    console: Path,
    control: Path,
    name: str = "guest",
    macs: Sequence[str] = ("00:50:56:00:00:01",),
    discard_writes: bool = False,
) -> list[str]:
    """Argv that runs raw `disks`; serial console goes to the file `console`, QMP listens on the socket `control`.

    The guest has no way out of the machine. With `discard_writes` the disk files stay as they are.
    """
    argv = [
        *(EMULATOR, "-name", name, "-machine", "pc,usb=off", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-m", str(hardware.memory_mb), "-smp", str(hardware.cpu_count), "-nodefaults", "-no-user-config"),
        *("-display", "none", "-vga", "none", "-serial", f"file:{_quoted(console)}"),
        *("-qmp", f"unix:{_quoted(control)},server=on,wait=off"),
    ]
    if discard_writes:
        argv.append("-snapshot")
    if hardware.bus is Bus.PVSCSI:
        argv += ["-device", "pvscsi,id=bus"]
    elif hardware.bus is Bus.VIRTIO_SCSI:
        argv += ["-device", "virtio-scsi-pci,id=bus"]
    for number, disk in enumerate(disks):
        argv += ["-drive", f"file={_quoted(disk)},format=raw,if=none,id=disk{number},discard=unmap"]
        argv += ["-device", f"{_disk_device(hardware.bus, number)},drive=disk{number},bootindex={number + 1}"]
    for number, mac in enumerate(macs):
        argv += [
            "-netdev",
            f"user,id=net{number},restrict=on",
            "-device",
            f"{hardware.card},netdev=net{number},mac={mac}",
        ]
    return argv


def _disk_device(bus: Bus, number: int) -> str:
    if bus is Bus.IDE:
        return f"ide-hd,bus=ide.{number // 2},unit={number % 2}"
    if bus is Bus.VIRTIO:
        return "virtio-blk-pci"
    return f"scsi-hd,bus=bus.0,scsi-id={number}"


def _quoted(path: Path) -> str:
    """A comma would end the option's value; QEMU wants it doubled."""
    return str(path).replace(",", ",,")
