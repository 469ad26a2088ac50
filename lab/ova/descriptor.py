"""The OVF descriptor of a small VM, as VMware's export tool writes one."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

_NAMESPACES = {
    "xmlns": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "xmlns:cim": "http://schemas.dmtf.org/wbem/wscim/1/common",
    "xmlns:rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "xmlns:vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "xmlns:vmw": "http://www.vmware.com/schema/ovf",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
_STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


@dataclass(frozen=True)
class OvfDisk:
    """A disk in the package: name and size of its file, and the size of the disk that it holds."""

    file: str
    file_bytes: int
    capacity_bytes: int


@dataclass(frozen=True)
class OvfMachine:
    """What the descriptor says of the VM besides its disks."""

    name: str
    networks: tuple[str, ...] = ("VM Network",)
    cpu_count: int = 1
    memory_mb: int = 256
    firmware: str = "bios"
    os_type: str = "debian12_64Guest"


def descriptor(machine: OvfMachine, disks: tuple[OvfDisk, ...]) -> bytes:
    """The .ovf file."""
    names = " ".join(f"{key}={quoteattr(value)}" for key, value in _NAMESPACES.items())
    body = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<Envelope vmw:buildId="build-20154778" {names}>',
        *_files_and_disks(disks),
        *_networks(machine),
        f"  <VirtualSystem ovf:id={quoteattr(machine.name)}>",
        "    <Info>A virtual machine</Info>",
        f"    <Name>{escape(machine.name)}</Name>",
        f'    <OperatingSystemSection ovf:id="96" vmw:osType={quoteattr(machine.os_type)}>',
        "      <Info>The kind of installed guest operating system</Info>",
        "    </OperatingSystemSection>",
        *_hardware(machine, disks),
        "  </VirtualSystem>",
        "</Envelope>",
    ]
    return ("\n".join(body) + "\n").encode()


def _files_and_disks(disks: tuple[OvfDisk, ...]) -> list[str]:
    lines = ["  <References>"]
    for number, disk in enumerate(disks, start=1):
        file = quoteattr(disk.file)
        lines.append(f'    <File ovf:href={file} ovf:id="file{number}" ovf:size="{disk.file_bytes}"/>')
    lines += ["  </References>", "  <DiskSection>", "    <Info>Virtual disk information</Info>"]
    for number, disk in enumerate(disks, start=1):
        lines.append(
            f'    <Disk ovf:capacity="{disk.capacity_bytes}" ovf:capacityAllocationUnits="byte" '
            f'ovf:diskId="vmdisk{number}" ovf:fileRef="file{number}" ovf:format="{_STREAM_OPTIMIZED}" '
            f'ovf:populatedSize="{disk.file_bytes}"/>'
        )
    return [*lines, "  </DiskSection>"]


def _networks(machine: OvfMachine) -> list[str]:
    lines = ["  <NetworkSection>", "    <Info>The list of logical networks</Info>"]
    for name in dict.fromkeys(machine.networks):
        description = f"<Description>The {escape(name)} network</Description>"
        lines.append(f"    <Network ovf:name={quoteattr(name)}>{description}</Network>")
    return [*lines, "  </NetworkSection>"]


def _hardware(machine: OvfMachine, disks: tuple[OvfDisk, ...]) -> list[str]:
    """Items count their instance ids upward; disks hang on the controller, item 3."""
    name = escape(machine.name)
    lines = [
        "    <VirtualHardwareSection>",
        "      <Info>Virtual hardware requirements</Info>",
        "      <System>",
        "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>",
        "        <vssd:InstanceID>0</vssd:InstanceID>",
        f"        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>",
        "        <vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType>",
        "      </System>",
    ]
    items: list[dict[str, object]] = [
        {
            "AllocationUnits": "hertz * 10^6",
            "Description": "Number of Virtual CPUs",
            "ElementName": f"{machine.cpu_count} virtual CPU(s)",
            "ResourceType": 3,
            "VirtualQuantity": machine.cpu_count,
        },
        {
            "AllocationUnits": "byte * 2^20",
            "Description": "Memory Size",
            "ElementName": f"{machine.memory_mb}MB of memory",
            "ResourceType": 4,
            "VirtualQuantity": machine.memory_mb,
        },
        {
            "Address": 0,
            "Description": "SCSI Controller",
            "ElementName": "SCSI controller 0",
            "ResourceSubType": "VirtualSCSI",
            "ResourceType": 6,
        },
    ]
    for number in range(len(disks)):
        items.append(
            {
                "AddressOnParent": number,
                "ElementName": f"Hard disk {number + 1}",
                "HostResource": f"ovf:/disk/vmdisk{number + 1}",
                "Parent": 3,
                "ResourceType": 17,
            }
        )
    for number, network in enumerate(machine.networks):
        items.append(
            {
                "AddressOnParent": 7 + number,
                "AutomaticAllocation": "true",
                "Connection": network,
                "Description": f'VmxNet3 ethernet adapter on "{network}"',
                "ElementName": f"Network adapter {number + 1}",
                "ResourceSubType": "VmxNet3",
                "ResourceType": 10,
            }
        )
    for number, item in enumerate(items, start=1):
        lines.append("      <Item>")
        # The schema wants the elements in alphabetical order.
        for key, value in sorted({**item, "InstanceID": number}.items()):
            lines.append(f"        <rasd:{key}>{escape(str(value))}</rasd:{key}>")
        lines.append("      </Item>")
    lines.append(f'      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value={quoteattr(machine.firmware)}/>')
    return [*lines, "    </VirtualHardwareSection>"]
