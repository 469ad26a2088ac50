"""The libvirt domain XML by which virt-v2v-in-place learns the disks of a guest (virt-v2v's own minimal form)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree


def domain_xml(name: str, overlays: Sequence[Path], *, firmware: str) -> str:
    """Return the XML of a guest whose disks, in boot order, are qcow2 `overlays`."""
    domain = ElementTree.Element("domain", type="kvm")
    _text(domain, "name", name)
    memory = _text(domain, "memory", "1048576")
    memory.set("unit", "KiB")
    _text(domain, "vcpu", "1")
    system = ElementTree.SubElement(domain, "os", {"firmware": "efi"} if firmware == "efi" else {})
    _text(system, "type", "hvm").set("arch", "x86_64")
    ElementTree.SubElement(system, "boot", dev="hd")
    devices = ElementTree.SubElement(domain, "devices")
    for index, overlay in enumerate(overlays):
        disk = ElementTree.SubElement(devices, "disk", type="file", device="disk")
        # The format is said, never probed: the guest owns the bytes and could make them look like another format.
        ElementTree.SubElement(disk, "driver", name="qemu", type="qcow2")
        ElementTree.SubElement(disk, "source", file=str(overlay))
        ElementTree.SubElement(disk, "target", dev=f"sd{disk_letters(index)}", bus="scsi")
    return ElementTree.tostring(domain, encoding="unicode")


def disk_letters(index: int) -> str:
    """Return Linux's letters for disk `index`: 0 → a, 25 → z, 26 → aa."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _text(parent: ElementTree.Element, tag: str, text: str) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child
