"""A data centre to read: two clusters, three hosts, networks, profiles, storage, and VMs plain and odd."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from ovirtsdk4 import types

from lab.ovirt.estate import PARTS, Estate

GIB = 1 << 30
_STARTED = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def data_centre(*, load: int = 0) -> Estate:
    """The sample. `load` more VMs of one disk and one card each are called load-000 and so on."""
    estate = Estate()
    _surroundings(estate)
    add_vm(
        estate,
        "web-1",
        status=types.VmStatus.UP,
        host=types.Host(id="host-1"),
        fqdn="web-1.example.test",
        bios=types.Bios(type=types.BiosType.Q35_SECURE_BOOT, boot_menu=types.BootMenu(enabled=False)),
        cpu=_cpu(sockets=2, cores=2, threads=2),
        os=types.OperatingSystem(type="rhel_9x64"),
        guest_operating_system=types.GuestOperatingSystem(
            distribution="Red Hat Enterprise Linux", version=types.Version(full_version="9.4", major=9, minor=4)
        ),
        time_zone=types.TimeZone(name="Europe/Berlin"),
        tpm_enabled=True,
        disks=[
            disk_with("web-1_Disk2", 2 * GIB, interface="virtio", domain="silver"),
            disk_with("web-1_Disk10", 1 * GIB, interface="sata"),
            disk_with("web-1_Disk1", 8 * GIB, bootable=True),
        ],
        nics=[nic("nic2", "56:6F:00:00:00:02", "vp-app", interface="e1000"), nic("nic1", "56:6f:00:00:00:01")],
        reported_devices=[
            types.ReportedDevice(
                id="rd-1",
                name="eth0",
                mac=types.Mac(address="56:6f:00:00:00:01"),
                ips=[
                    types.Ip(address="10.0.0.11", version=types.IpVersion.V4),
                    types.Ip(address="fe80::1", version=types.IpVersion.V6),
                ],
            )
        ],
        applications=[types.Application(id="app-1", name="qemu-guest-agent-8.2")],
        cdroms=[types.Cdrom(id="cd-1", file=types.File(id="virtio-win.iso"))],
    )
    _odd(estate)
    add_vm(estate, "off-1", disks=[disk_with("off-1_Disk1", GIB)], nics=[nic("nic1", "56:6f:00:00:00:20")])
    add_vm(estate, "twice", disks=[disk_with("twice_Disk1", GIB)])
    add_vm(estate, "twice", cluster=types.Cluster(id="cl-2"), disks=[disk_with("twice-b_Disk1", GIB)])
    add_vm(estate, "asleep-1", status=types.VmStatus.SUSPENDED, disks=[disk_with("asleep-1_Disk1", GIB)])
    for number in range(1, 5):
        add_vm(
            estate,
            f"power-{number}",
            status=types.VmStatus.UP,
            host=types.Host(id="host-1"),
            disks=[disk_with(f"power-{number}_Disk1", GIB)],
        )
    for number in range(load):
        name = f"load-{number:03d}"
        card = nic("nic1", f"56:6f:01:00:{number >> 8:02x}:{number & 255:02x}")
        add_vm(estate, name, disks=[disk_with(f"{name}_Disk1", GIB)], nics=[card])
    return estate


def add_vm(estate: Estate, name: str, *, disks: list[tuple[Any, Any]] | None = None, **options: Any) -> Any:
    """Put a VM, off unless said otherwise, with disks of `disk_with` and what lies below it by the parts' names."""
    vm_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{len(estate.objects['vms'])}"))
    parts = {part: options.pop(part) for part in list(options) if part in PARTS}
    fields: dict[str, Any] = {
        "status": types.VmStatus.DOWN,
        "cluster": types.Cluster(id="cl-1"),
        "cpu": _cpu(),
        "cpu_shares": 0,
        "cpu_pinning_policy": types.CpuPinningPolicy.NONE,
        "memory": 2 * GIB,
        "memory_policy": types.MemoryPolicy(ballooning=False, guaranteed=GIB),
        "bios": types.Bios(type=types.BiosType.CLUSTER_DEFAULT, boot_menu=types.BootMenu(enabled=False)),
        "os": types.OperatingSystem(type="other_linux"),
        "display": types.Display(type=types.DisplayType.VNC),
        "high_availability": types.HighAvailability(enabled=False, priority=1),
        "io": types.Io(threads=1),
        "placement_policy": types.VmPlacementPolicy(affinity=types.VmAffinity.USER_MIGRATABLE),
        "storage_error_resume_behaviour": types.VmStorageErrorResumeBehaviour.AUTO_RESUME,
        "time_zone": types.TimeZone(name="Etc/GMT"),
        "usb": types.Usb(enabled=False),
        "stateless": False,
        "has_illegal_images": False,
        "tpm_enabled": False,
        "start_time": _STARTED,
    }
    vm = types.Vm(id=vm_id, name=name, **{**fields, **options})
    for disk, attachment in disks or []:
        estate.add("disks", disk)
        parts.setdefault("disk_attachments", []).append(attachment)
    active = types.Snapshot(
        id=f"{vm_id}-active",
        description="Active VM",
        snapshot_type=types.SnapshotType.ACTIVE,
        persist_memorystate=False,
    )
    parts["snapshots"] = [active, *parts.get("snapshots", [])]
    return estate.add("vms", vm, **parts)


def _surroundings(estate: Estate) -> None:
    for number, cluster_options in (
        (1, {"ha_reservation": False, "ksm": types.Ksm(enabled=False)}),
        (2, {"ha_reservation": True, "ksm": types.Ksm(enabled=True)}),
    ):
        estate.add("data_centers", types.DataCenter(id=f"dc-{number}", name=f"dc{number}"))
        cluster = types.Cluster(
            id=f"cl-{number}",
            name=f"cluster{number}",
            data_center=types.DataCenter(id=f"dc-{number}"),
            bios_type=types.BiosType.Q35_OVMF,
            cpu=types.Cpu(architecture=types.Architecture.X86_64, type="Secure Intel Cascadelake Server Family"),
            version=types.Version(major=4, minor=7),
            **cluster_options,
        )
        estate.add("clusters", cluster)
    for number, cluster_id, status in ((1, "cl-1", "up"), (2, "cl-1", "maintenance"), (3, "cl-2", "up")):
        host = types.Host(
            id=f"host-{number}",
            name=f"ovirt-{number}.lab",
            cluster=types.Cluster(id=cluster_id),
            status=types.HostStatus(status),
            os=types.OperatingSystem(type="RHEL"),
        )
        estate.add("hosts", host)
    for name, vlan in (("ovirtmgmt", None), ("app", 20)):
        network = types.Network(
            id=f"net-{name}",
            name=name,
            data_center=types.DataCenter(id="dc-1"),
            vlan=types.Vlan(id=vlan) if vlan else None,
            usages=[types.NetworkUsage.VM],
        )
        estate.add("networks", network)
    _profiles(estate)
    for name in ("gold", "silver"):
        domain = types.StorageDomain(
            id=f"sd-{name}",
            name=name,
            type=types.StorageDomainType.DATA,
            storage=types.HostStorage(type=types.StorageType.NFS),
            available=900 * GIB,
            used=100 * GIB,
            data_centers=[types.DataCenter(id="dc-1")],
        )
        estate.add("storage_domains", domain)
        estate.add("disk_profiles", types.DiskProfile(id=f"dp-{name}", name=f"{name}-profile", storage_domain=domain))


def _profiles(estate: Estate) -> None:
    plain: dict[str, Any] = {"port_mirroring": False, "custom_properties": []}
    estate.add("vnic_profiles", types.VnicProfile(id="vp-mgmt", name="mgmt", network=_net("ovirtmgmt"), **plain))
    estate.add("vnic_profiles", types.VnicProfile(id="vp-app", name="app", network=_net("app"), **plain))
    odd = types.VnicProfile(
        id="vp-odd",
        name="odd",
        network=_net("app"),
        port_mirroring=True,
        network_filter=types.NetworkFilter(id="nf-1", name="vdsm-no-mac-spoofing"),
        qos=types.Qos(id="qos-1"),
        custom_properties=[types.CustomProperty(name="hook", value="1")],
        pass_through=types.VnicPassThrough(mode=types.VnicPassThroughMode.ENABLED),
    )
    estate.add("vnic_profiles", odd)


def _net(name: str) -> Any:
    return types.Network(id=f"net-{name}")


def _odd(estate: Estate) -> None:
    """A VM of which nearly every rule has something to say, one whose disks nobody can copy, and an old one."""
    shared, attachment = disk_with("odd_1_Disk1", GIB, interface="ide", bootable=True)
    shared.shareable, shared.status, attachment.uses_scsi_reservation = True, types.DiskStatus.LOCKED, True
    add_vm(
        estate,
        "odd_1",
        status=types.VmStatus.PAUSED,
        cluster=types.Cluster(id="cl-2"),
        bios=types.Bios(type=types.BiosType.Q35_SECURE_BOOT, boot_menu=types.BootMenu(enabled=True)),
        cpu=_cpu(pins=[types.VcpuPin(cpu_set="0-3", vcpu=0)]),
        cpu_pinning_policy=types.CpuPinningPolicy.ISOLATE_THREADS,
        cpu_shares=512,
        custom_cpu_model="Cascadelake-Server",
        custom_properties=[types.CustomProperty(name="sndbuf", value="10")],
        display=types.Display(type=types.DisplayType.SPICE),
        has_illegal_images=True,
        high_availability=types.HighAvailability(enabled=True, priority=50),
        io=types.Io(threads=2),
        memory_policy=types.MemoryPolicy(ballooning=True),
        os=types.OperatingSystem(type="windows_2022"),
        placement_policy=types.VmPlacementPolicy(affinity=types.VmAffinity.MIGRATABLE, hosts=[types.Host(id="host-3")]),
        serial_number=types.SerialNumber(policy=types.SerialNumberPolicy.CUSTOM, value="SN-7"),
        storage_error_resume_behaviour=types.VmStorageErrorResumeBehaviour.KILL,
        time_zone=types.TimeZone(name="GMT Standard Time"),
        lease=types.StorageDomainLease(storage_domain=types.StorageDomain(id="sd-gold")),
        usb=types.Usb(enabled=True),
        disks=[(shared, attachment)],
        nics=[nic("nic1", "56:6f:00:00:00:10", "vp-odd", interface="pci_passthrough", plugged=False)],
        snapshots=[
            types.Snapshot(
                id="snap-1",
                description="before",
                snapshot_type=types.SnapshotType.REGULAR,
                persist_memorystate=True,
            )
        ],
        watchdogs=[types.Watchdog(id="wd-1", action=types.WatchdogAction.RESET, model=types.WatchdogModel.I6300ESB)],
        host_devices=[
            types.HostDevice(
                id="hd-1",
                name="pci_0000_3b_00_0",
                capability="pci",
                product=types.Product(name="GPU"),
                vendor=types.Vendor(name="Maker"),
            )
        ],
        numa_nodes=[types.VirtualNumaNode(id="nn-0", index=0, numa_node_pins=[types.NumaNodePin(index=1)])],
        graphics_consoles=[types.GraphicsConsole(id="gc-1", protocol=types.GraphicsType.SPICE)],
    )
    lun = disk_with("lun-1_Disk1", 0, interface="virtio_scsi", bootable=True)
    lun[0].storage_type, lun[0].storage_domains, lun[0].provisioned_size = types.DiskStorageType.LUN, [], None
    lun[0].lun_storage = types.HostStorage(
        type=types.StorageType.ISCSI,
        logical_units=[
            types.LogicalUnit(
                id="3600a", size=4 * GIB, address="10.9.0.1", port=3260, target="iqn.2026-01.lab:a", lun_mapping=1
            )
        ],
    )
    cinder = disk_with("lun-1_Disk2", GIB)
    cinder[0].storage_type = types.DiskStorageType.CINDER
    empty = disk_with("lun-1_Disk3", 0)
    add_vm(estate, "lun-1", disks=[lun, cinder, empty])
    old: dict[str, Any] = {"os": types.OperatingSystem(type="rhel_6x64")}
    add_vm(estate, "old-1", disks=[disk_with(f"old-1_Disk{number}", GIB) for number in range(1, 167)], **old)


def _cpu(*, sockets: int = 1, cores: int = 1, threads: int = 1, pins: list[Any] | None = None) -> Any:
    return types.Cpu(
        architecture=types.Architecture.X86_64,
        topology=types.CpuTopology(sockets=sockets, cores=cores, threads=threads),
        cpu_tune=types.CpuTune(vcpu_pins=pins) if pins else None,
    )


def disk_with(
    name: str, size_bytes: int, *, interface: str = "virtio_scsi", bootable: bool = False, domain: str = "gold"
) -> tuple[Any, Any]:
    """A disk in a storage domain, and its attachment."""
    disk_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    disk = types.Disk(
        id=disk_id,
        name=name,
        alias=name,
        image_id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.image")),
        provisioned_size=size_bytes,
        actual_size=size_bytes // 4,
        status=types.DiskStatus.OK,
        storage_type=types.DiskStorageType.IMAGE,
        format=types.DiskFormat.COW,
        backup=types.DiskBackup.NONE,
        shareable=False,
        storage_domains=[types.StorageDomain(id=f"sd-{domain}")],
        disk_profile=types.DiskProfile(id=f"dp-{domain}"),
    )
    attachment = types.DiskAttachment(
        id=disk_id,
        active=True,
        bootable=bootable,
        interface=types.DiskInterface(interface),
        uses_scsi_reservation=False,
        disk=types.Disk(id=disk_id),
    )
    return disk, attachment


def nic(name: str, mac: str, profile: str = "vp-mgmt", *, interface: str = "virtio", plugged: bool = True) -> Any:
    """A network card; a profile of "" leaves it without one."""
    return types.Nic(
        id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{mac}.nic")),
        name=name,
        mac=types.Mac(address=mac),
        interface=types.NicInterface(interface),
        plugged=plugged,
        linked=True,
        vnic_profile=types.VnicProfile(id=profile) if profile else None,
    )
