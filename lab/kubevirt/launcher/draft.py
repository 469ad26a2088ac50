"""What a VMI's spec asks for, as far as it has been worked out: the command line, and what must be there before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Unsupported(Exception):
    """The spec asks for something that this launcher cannot give; the guest would not be what the spec says."""


@dataclass(frozen=True)
class Places:
    """Folders of the launcher pod. They are the real virt-launcher's."""

    run: Path  # consoles, QMP and per-pod state of this instance
    claims: Path = Path("/var/run/kubevirt-private/vmi-disks")  # <volume>/disk.img of Filesystem claims
    devices: Path = Path("/dev")  # <volume> of Block claims
    overlays: Path = Path("/var/run/kubevirt-ephemeral-disks/disk-data")
    empty_disks: Path = Path("/var/run/libvirt/empty-disks")
    nvram: Path = Path("/var/run/kubevirt-private/libvirt/qemu/nvram")  # a claim's folder where EFI is persistent
    tpm: Path = Path("/var/run/kubevirt-private/libvirt/qemu/swtpm")  # a claim's folder where the TPM is persistent
    firmware: Path = Path("/usr/share/OVMF")


@dataclass(frozen=True)
class Host:
    """What the machine below the pod offers."""

    kvm: bool = False
    tpm_emulator: bool = False
    direct_io: frozenset[str] = frozenset()  # volumes whose file or device can be opened with O_DIRECT


@dataclass(frozen=True)
class NewImage:
    """A qcow2 file to create: over ``backing`` (copy on write), or empty with ``size_bytes``."""

    path: Path
    backing: Path | None = None
    size_bytes: int | None = None


@dataclass
class Draft:
    """Collects QEMU's arguments while the parts of the spec are read one after the other."""

    vmi: dict[str, Any]
    volume_modes: dict[str, str]  # volume name: Filesystem or Block
    places: Places
    host: Host
    argv: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what of the spec is not carried out, for the log and the event
    images: list[NewImage] = field(default_factory=list)
    copies: list[tuple[Path, Path]] = field(default_factory=list)  # (template, file) to copy if the file is not there
    links_down: list[str] = field(default_factory=list)  # network devices whose cable is out from the start
    tpm_state: Path | None = None  # folder of the TPM emulator that must run before QEMU

    @property
    def spec(self) -> dict[str, Any]:
        """``spec`` of the VMI."""
        return self.vmi["spec"]  # type: ignore[no-any-return]  # a JSON document

    @property
    def domain(self) -> dict[str, Any]:
        """``spec.domain`` of the VMI."""
        return self.spec["domain"]  # type: ignore[no-any-return]  # a JSON document

    @property
    def devices(self) -> dict[str, Any]:
        """``spec.domain.devices`` of the VMI."""
        return self.domain.get("devices") or {}

    def add(self, *arguments: str) -> None:
        """Append arguments as they are."""
        self.argv += arguments

    def device(self, model: str, properties: Mapping[str, object] | None = None) -> None:
        """Append a ``-device``; properties that are None are left out, commas in values are doubled as QEMU wants."""
        self.add("-device", ",".join([model, *_words(properties or {})]))

    def blockdev(self, properties: Mapping[str, object]) -> None:
        """Append a ``-blockdev``; as ``device``."""
        self.add("-blockdev", ",".join(_words(properties)))

    def virtio(self, kind: str) -> str:
        """Model of a virtio PCI device: ``net`` is virtio-net-pci-non-transitional unless the spec says otherwise."""
        transitional = self.devices.get("useVirtioTransitional")
        return f"virtio-{kind}-pci-{'' if transitional else 'non-'}transitional"


def _words(properties: Mapping[str, object]) -> list[str]:
    words = []
    for name, value in properties.items():
        if value is not None:
            text = ("on" if value else "off") if isinstance(value, bool) else str(value)
            words.append(f"{name}={text.replace(',', ',,')}")
    return words
