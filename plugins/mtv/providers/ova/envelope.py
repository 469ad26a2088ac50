"""An OVF envelope → what its virtual systems are made of. Pure; names of elements without namespaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import msgspec

from mtv.providers.ova.refusal import Refused
from mtv.providers.ova.units import bytes_of
from mtv.providers.ova.xml import Document, child_text

_MAX_SYSTEMS = 200
_DIGITS = re.compile(r"[0-9]{1,18}")

# ResourceType numbers of CIM_ResourceAllocationSettingData.
_CPU, _MEMORY, _IDE, _SCSI, _NIC, _DISK, _OTHER_STORAGE, _USB = 3, 4, 5, 6, 10, 17, 20, 23
_KINDS = {_IDE: "ide", _SCSI: "scsi", _USB: "usb"}

_WRITERS = (
    ("VMware", "http://www.vmware.com/schema/ovf"),
    ("VirtualBox", "http://www.virtualbox.org/ovf/machine"),
    ("Xen", "http://www.citrix.com/xenclient/ovf"),
    ("oVirt", "http://www.ovirt.org/ovf"),
)


class FileReference(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the References section. `size_bytes` is as declared, None when it is not; `chunk_bytes` is the size of
    the pieces into which the file is split, None when it is whole.
    """

    id: str
    href: str
    size_bytes: int | None
    compression: str
    chunk_bytes: int | None


class VirtualDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of the Disk section; `file` is the id of its file, "" for a disk that starts empty."""

    id: str
    file: str
    capacity: str
    units: str
    format: str
    populated_bytes: int
    parent: str


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a hardware section."""

    instance: str
    kind: int
    subtype: str
    name: str
    parent: str
    address: str
    address_on_parent: str
    quantity: str
    units: str
    host_resource: str
    connection: str
    connected: bool
    config: dict[str, str]


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual system: identity, items and the writer's own settings (keys in lower case)."""

    id: str
    name: str
    os: str
    os_version: str
    items: tuple[Hardware, ...]
    settings: dict[str, str]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A whole OVF."""

    writer: str
    files: dict[str, FileReference]
    disks: dict[str, VirtualDisk]
    networks: tuple[str, ...]
    systems: tuple[System, ...]


def read_envelope(document: Document) -> Envelope:
    """Return the envelope. Raises `Refused` when it is none, or says something we cannot follow."""
    root = document.root
    if root.tag != "Envelope":
        raise Refused(f"its OVF is a <{root.tag}>, not an Envelope")
    configuration = _default_configuration(root)
    systems = tuple(_system(element, configuration) for element in _systems(root))
    if not systems:
        raise Refused("its OVF holds no VirtualSystem")
    if len(systems) > _MAX_SYSTEMS:
        raise Refused(f"its OVF holds more than {_MAX_SYSTEMS} virtual systems")
    return Envelope(
        writer=_writer(document.namespaces),
        files={file.id: file for file in map(_file, root.iterfind("References/File"))},
        disks={disk.id: disk for disk in map(_disk, _sections(root, "DiskSection", "Disk"))},
        networks=tuple(element.get("name", "") for element in _sections(root, "NetworkSection", "Network")),
        systems=systems,
    )


def _writer(namespaces: frozenset[str]) -> str:
    return next((name for name, uri in _WRITERS if any(ns.startswith(uri) for ns in namespaces)), "Unknown")


def kind_name(item: Hardware) -> str:
    """Return the bus of a controller: ide, scsi, sata, nvme or usb; "" for other items."""
    if item.kind == _OTHER_STORAGE:
        subtype = item.subtype.lower()
        return "nvme" if "nvme" in subtype else "sata" if "ahci" in subtype or "sata" in subtype else ""
    return _KINDS.get(item.kind, "")


def cpus(system: System) -> tuple[int, int]:
    """Return (virtual CPUs, cores per socket)."""
    for item in system.items:
        if item.kind == _CPU:
            count = _count(item.quantity, "the number of CPUs")
            cores = _count(item.config.get("corespersocket", "") or "1", "cores per socket")
            return count, cores if count % cores == 0 else 1
    raise Refused(f"virtual system {system.name!r} says no number of CPUs")


def memory(system: System) -> tuple[str, str, int]:
    """Return (quantity, units, bytes) of the memory; OVF writers without units mean MiB."""
    for item in system.items:
        if item.kind == _MEMORY:
            what = f"the memory of {system.name!r}"
            return item.quantity, item.units, bytes_of(item.quantity, item.units, what=what, default_unit="byte * 2^20")
    raise Refused(f"virtual system {system.name!r} says no amount of memory")


def disk_items(system: System) -> list[tuple[Hardware, str]]:
    """Return the disk items with their bus, in order: controller by controller, then by address on it."""
    controllers = _controllers(system)
    places = {item.instance: place for place, item in enumerate(controllers)}
    last = len(system.items)

    def key(item: Hardware) -> tuple[int, int]:
        address = _number(item.address_on_parent)
        return places.get(item.parent, last), last if address is None else address

    found = sorted((item for item in system.items if item.kind == _DISK), key=key)
    return [(item, kind_name(controllers[places[item.parent]]) if item.parent in places else "") for item in found]


def _controllers(system: System) -> list[Hardware]:
    """Return the controllers of disks bus by bus, as the buses come; on one bus by their addresses.

    VMware writes the second IDE controller before the first. Where addresses are missing or the same, as writers have
    them that give each controller 0, the order of the document is all there is.
    """
    buses: dict[str, list[Hardware]] = {}
    for item in system.items:
        if bus := kind_name(item):
            buses.setdefault(bus, []).append(item)
    found = []
    for on_bus in buses.values():
        addresses = [_number(item.address) for item in on_bus]
        if None not in addresses and len({*addresses}) == len(on_bus):
            on_bus.sort(key=lambda item: int(item.address))
        found += on_bus
    return found


def nic_items(system: System) -> list[Hardware]:
    """Return the network cards in their order."""
    return [item for item in system.items if item.kind == _NIC]


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) else None


def _count(text: str, what: str) -> int:
    number = _number(text)
    if number is None or not 0 < number <= 4096:
        raise Refused(f"{what} is {text[:40]!r}")
    return number


def _systems(element: Element) -> Iterator[Element]:
    for child in element:
        if child.tag == "VirtualSystem":
            yield child
        elif child.tag == "VirtualSystemCollection":
            yield from _systems(child)
        elif child.tag == "Content":  # OVF 0.9
            yield child


def _sections(root: Element, name: str, item: str) -> Iterator[Element]:
    yield from root.iterfind(f"{name}/{item}")
    for section in root.iterfind("Section"):  # OVF 0.9
        yield from section.iterfind(item)


def _default_configuration(root: Element) -> str:
    options = root.findall("DeploymentOptionSection/Configuration")
    chosen = next((option for option in options if option.get("default", "").lower() in ("true", "1")), None)
    return (chosen if chosen is not None else options[0]).get("id", "") if options else ""


def _file(element: Element) -> FileReference:
    size, chunk = element.get("size", ""), element.get("chunkSize", "")
    if chunk and not _number(chunk):
        raise Refused(f"the pieces of its file {element.get('href', '')!r} have a size of {chunk[:40]!r}")
    return FileReference(
        id=element.get("id", ""),
        href=element.get("href", ""),
        size_bytes=_number(size),
        compression=element.get("compression", "").lower().replace("identity", ""),
        chunk_bytes=_number(chunk),
    )


def _disk(element: Element) -> VirtualDisk:
    populated = element.get("populatedSize", "")
    return VirtualDisk(
        id=element.get("diskId", ""),
        file=element.get("fileRef", ""),
        capacity=element.get("capacity", ""),
        units=element.get("capacityAllocationUnits", ""),
        format=element.get("format", ""),
        populated_bytes=_number(populated) or 0,
        parent=element.get("parentRef", ""),
    )


def _system(element: Element, configuration: str) -> System:
    hardware = element.find("VirtualHardwareSection")
    if hardware is None:
        hardware = next((s for s in element.iterfind("Section") if s.find("Item") is not None), None)
    if hardware is None:
        raise Refused(f"virtual system {element.get('id', '')!r} has no hardware section")
    os_section = element.find("OperatingSystemSection")
    items: dict[str, Hardware] = {}
    for order, child in enumerate(hardware):
        if child.tag in ("Item", "StorageItem", "EthernetPortItem"):
            wanted = child.get("configuration", "").split()
            if not wanted or configuration in wanted:
                item = _item(child)
                items[item.instance or f"#{order}"] = item
    settings = _config(hardware)
    firmware = element.find("Machine/Hardware/Firmware")  # VirtualBox writes its own section beside the standard ones
    if firmware is not None and firmware.get("type", "").upper().startswith("EFI"):
        settings.setdefault("firmware", "efi")
    return System(
        id=element.get("id", ""),
        name=child_text(element, "Name") or element.get("id", ""),
        os=(os_section.get("osType", "") or child_text(os_section, "Description")) if os_section is not None else "",
        os_version=os_section.get("version", "") if os_section is not None else "",
        items=tuple(items.values()),
        settings=settings,
    )


def _item(element: Element) -> Hardware:
    kind = child_text(element, "ResourceType")
    config = _config(element)
    cores = child_text(element, "CoresPerSocket")
    if cores:
        config["corespersocket"] = cores
    return Hardware(
        instance=child_text(element, "InstanceID") or child_text(element, "InstanceId"),
        kind=_number(kind) or 0,
        subtype=child_text(element, "ResourceSubType"),
        name=child_text(element, "ElementName") or child_text(element, "Caption"),
        parent=child_text(element, "Parent"),
        address=child_text(element, "Address") or child_text(element, "MACAddress"),
        address_on_parent=child_text(element, "AddressOnParent"),
        quantity=child_text(element, "VirtualQuantity"),
        units=child_text(element, "AllocationUnits"),
        host_resource=child_text(element, "HostResource"),
        connection=child_text(element, "Connection"),
        connected=child_text(element, "AutomaticAllocation").lower() != "false",
        config=config,
    )


def _config(element: Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for child in element:
        if child.tag in ("Config", "ExtraConfig") and child.get("key"):
            found[child.get("key", "").lower()] = child.get("value", "")
    return found
