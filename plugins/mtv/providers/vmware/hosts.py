"""What hosts are made of, in the words of documents: their network, their disks and the adapters that lead there. Pure.

Capacities are bytes, link speeds Mbit/s. A host whose properties the user may not read has empty lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyVmomi import vim

PATHS = (
    "summary.config.sslThumbprint",
    "capability.vmotionSupported",
    "capability.storageVMotionSupported",
    "config.network.pnic",
    "config.network.vnic",
    "config.network.portgroup",
    "config.network.vswitch",
    "config.virtualNicManagerInfo.netConfig",
    "config.storageDevice.hostBusAdapter",
    "config.storageDevice.scsiLun",
    "config.storageDevice.scsiTopology.adapter",
)
"""What is read of a host for this, beside what VMs need to know of theirs."""

# A kind of adapter stands before the kind that it is a special case of.
_PROTOCOLS: tuple[tuple[Any, str], ...] = (
    (vim.host.FibreChannelOverEthernetHba, "FCoE"),
    (vim.host.FibreChannelHba, "FC"),
    (vim.host.InternetScsiHba, "iSCSI"),
    (vim.host.SerialAttachedHba, "SAS"),
    (vim.host.PcieHba, "PCIe"),
    (vim.host.TcpHba, "NVMe/TCP"),
    (vim.host.RdmaHba, "NVMe/RDMA"),
    (vim.host.ParallelScsiHba, "SCSI"),
    (vim.host.BlockHba, "block"),
)


def hardware(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a host's document that come from `PATHS`, by a host's properties."""
    return {
        "thumbprint": str(own.get("summary.config.sslThumbprint") or ""),
        "vMotionSupported": bool(own.get("capability.vmotionSupported", False)),
        "storageVMotionSupported": bool(own.get("capability.storageVMotionSupported", False)),
        "managementIPs": _management_addresses(own.get("config.virtualNicManagerInfo.netConfig")),
        "networking": {
            "pNICs": [_physical(card) for card in own.get("config.network.pnic") or ()],
            "vNICs": [_virtual(card) for card in own.get("config.network.vnic") or ()],
            "portGroups": [_port_group(group) for group in own.get("config.network.portgroup") or ()],
            "switches": [_switch(switch) for switch in own.get("config.network.vswitch") or ()],
        },
        "hostScsiDisks": [_disk(lun) for lun in _disks(own)],
        "hbaDiskInfo": [_adapter(one) for one in own.get("config.storageDevice.hostBusAdapter") or ()],
        "hostScsiTopology": _topology(own),
    }


def protocol(adapter: Any) -> str:
    """Return how an adapter reaches its disks, "" when it is of a kind that nobody knows."""
    return next((name for kind, name in _PROTOCOLS if isinstance(adapter, kind)), "")


def _management_addresses(configured: Iterable[Any] | None) -> list[str]:
    found: list[str] = []
    for service in configured or ():
        if service.nicType != "management":
            continue
        chosen = set(service.selectedVnic or ())
        cards = [card for card in service.candidateVnic or () if card.key in chosen]
        found += [str(card.spec.ip.ipAddress) for card in cards if card.spec.ip is not None and card.spec.ip.ipAddress]
    return sorted(set(found))


def _physical(card: Any) -> dict[str, Any]:
    """A card without link has the speed 0."""
    return {
        "key": str(card.key or ""),
        "device": str(card.device or ""),
        "linkSpeed": int(card.linkSpeed.speedMb) if card.linkSpeed is not None else 0,
    }


def _virtual(card: Any) -> dict[str, Any]:
    spec = card.spec
    port = spec.distributedVirtualPort
    return {
        "key": str(card.key or ""),
        "device": str(card.device or ""),
        "portGroup": str(card.portgroup or ""),
        "dPortGroup": str(port.portgroupKey or "") if port is not None else "",
        "ipAddress": str(spec.ip.ipAddress or "") if spec.ip is not None else "",
        "subnetMask": str(spec.ip.subnetMask or "") if spec.ip is not None else "",
        "mtu": int(spec.mtu or 0),
    }


def _port_group(group: Any) -> dict[str, Any]:
    return {
        "key": str(group.key or ""),
        "name": str(group.spec.name or ""),
        "vSwitch": str(group.vswitch or ""),
        "vlanId": int(group.spec.vlanId or 0),
    }


def _switch(switch: Any) -> dict[str, Any]:
    return {
        "key": str(switch.key or ""),
        "name": str(switch.name or ""),
        "portGroups": sorted(map(str, switch.portgroup or ())),
        "pNICs": sorted(map(str, switch.pnic or ())),
    }


def _disks(own: Mapping[str, Any]) -> list[Any]:
    """Disks only: a host lists its tapes, CD drives and enclosures as LUNs, too."""
    luns = own.get("config.storageDevice.scsiLun") or ()
    return [lun for lun in luns if isinstance(lun, vim.host.ScsiDisk)]


def _disk(lun: Any) -> dict[str, Any]:
    return {
        "key": str(lun.key or ""),
        "canonicalName": str(lun.canonicalName or ""),
        "vendor": str(lun.vendor or "").strip(),
        "model": str(lun.model or "").strip(),
        "capacity": int(lun.capacity.block) * int(lun.capacity.blockSize) if lun.capacity is not None else 0,
    }


def _adapter(adapter: Any) -> dict[str, Any]:
    return {
        "key": str(adapter.key or ""),
        "device": str(adapter.device or ""),
        "model": str(adapter.model or "").strip(),
        "protocol": protocol(adapter),
    }


def _topology(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each adapter the canonical names of the disks that it leads to."""
    names = {str(lun.key): str(lun.canonicalName or "") for lun in _disks(own)}
    return [
        {
            "key": str(interface.key or ""),
            "adapter": str(interface.adapter or ""),
            "disks": sorted(
                {
                    names[str(lun.scsiLun)]
                    for target in interface.target or ()
                    for lun in target.lun or ()
                    if str(lun.scsiLun) in names
                }
            ),
        }
        for interface in own.get("config.storageDevice.scsiTopology.adapter") or ()
    ]
